/**
 * Adds up the JSON results of several vitest runs: node test/summary.mjs FILE... It prints the tests that failed, with
 * the first lines of why, and as its last line the numbers, so that the end of a long log says what went wrong.
 *
 * A gateway test may need a second try (vitest's --retry), because a busy machine can be too slow for it; it is named.
 * Any other test that fails once has failed: a random example that is wrong stays wrong.
 */
import { existsSync, readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

const LINES_OF_A_MESSAGE = 8;

const results = process.argv
  .slice(2)
  .filter((file) => existsSync(file) && readFileSync(file, 'utf8') !== '')
  .map((file) => JSON.parse(readFileSync(file, 'utf8')));

const print = (text) => process.stdout.write(`${text}\n`);

function printTest(what, title, message = '') {
  const lines = stripVTControlCharacters(message).trim().split('\n').slice(0, LINES_OF_A_MESSAGE);
  print([`${what} ${title}`, ...lines].join('\n    '));
}

let failedOnce = 0;

for (const { name, status, message, assertionResults } of results.flatMap((each) => each.testResults)) {
  const file = relative(process.cwd(), name);
  // A file can fail outside its tests: while it is loaded, or before the first one.
  if (status === 'failed' && !assertionResults.some((each) => each.status === 'failed'))
    printTest('FAILED', file, message);
  for (const test of assertionResults) {
    const [failure] = test.failureMessages;
    const title = `${file}: ${test.fullName}`;
    if (test.status === 'failed') printTest('FAILED', title, failure);
    else if (failure !== undefined && file.startsWith('test/gateway/'))
      printTest('PASSED ON A SECOND TRY', title, failure);
    else if (failure !== undefined) {
      failedOnce++;
      printTest('FAILED ON THE FIRST TRY', title, failure);
    }
  }
}

const sum = (key) => results.reduce((total, each) => total + each[key], 0);
const failed = sum('numFailedTests') + failedOnce;
print(`${sum('numPassedTests') - failedOnce} passed, ${failed} failed, ${sum('numPendingTests')} skipped`);
if (failed > 0) process.exitCode = 1;
