/** Adds up the JSON results of several vitest runs and prints one line with the numbers: node test/summary.mjs FILE... */
import { existsSync, readFileSync } from 'node:fs';

const results = process.argv
  .slice(2)
  .filter((file) => existsSync(file) && readFileSync(file, 'utf8') !== '')
  .map((file) => JSON.parse(readFileSync(file, 'utf8')));
const sum = (key) => results.reduce((total, each) => total + each[key], 0);
process.stdout.write(
  `${sum('numPassedTests')} passed, ${sum('numFailedTests')} failed, ${sum('numPendingTests')} skipped\n`,
);
