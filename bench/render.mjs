/**
 * The duration of a render, as a ratio to a bare `node -e 0` in the same run: `npm run bench`, after a build.
 * Every figure is a median. The commands alternate, so that a slower phase of the machine affects all of them.
 * With GENAI_GATEWAY_BENCH=smoke every command runs once, on small settings: this only shows that the bench works, and
 * its test uses it.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const SMOKE = process.env.GENAI_GATEWAY_BENCH === 'smoke';
if (!SMOKE && (process.env.GENAI_GATEWAY_BENCH ?? '') !== '') {
  throw new Error(`GENAI_GATEWAY_BENCH is ${process.env.GENAI_GATEWAY_BENCH}: write smoke, or unset it.`);
}
const [BACKENDS, CLIENTS, SIZES] = SMOKE ? [10, 100, [10, 20, 100]] : [1000, 10_000, [100, 1_000, 10_000]];
const count = (number) => number.toLocaleString('en');

const PROGRAM = fileURLToPath(new URL('../dist/genai-gateway.cjs', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'genai-gateway-bench-'));

/** An env file with that many backends and clients. */
function envFile(backends, clients) {
  const lines = ['GATEWAY_REQUIRE_AUTH=true'];
  for (let index = 0; index < backends; index++) {
    lines.push(
      `AZURE_OPENAI_ENDPOINT_${index}=https://resource-${index}.openai.azure.com`,
      `AZURE_OPENAI_KEY_${index}=key-of-backend-${index}-0123456789`,
    );
  }
  for (let index = 0; index < clients; index++) {
    lines.push(
      `GATEWAY_CLIENT_NAME_${index}=client-${index}`,
      `GATEWAY_CLIENT_KEY_${index}=key-of-client-${index}-0123456789`,
    );
  }
  const path = join(folder, `${backends}-${clients}.env`);
  writeFileSync(path, `${lines.join('\n')}\n`);
  return path;
}

/** Renders into a new folder for each run: the slowest case, because it writes all three files. */
function render(backends, clients) {
  const file = envFile(backends, clients);
  let run = 0;
  return () => [
    '--',
    PROGRAM,
    'render',
    '--quiet',
    '--env-file',
    file,
    '--out',
    join(folder, `${backends}-${clients}-${run++}`),
  ];
}

const PEAK = `process.on('exit', () => process.stderr.write('peak ' + process.resourceUsage().maxRSS));`;
const peakModule = join(folder, 'peak.cjs');
writeFileSync(peakModule, PEAK);

function once(args, withPeak) {
  const started = process.hrtime.bigint();
  const { status, stderr } = spawnSync(
    process.execPath,
    withPeak ? ['--require', peakModule, ...args] : args,
    { env: {}, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`exit ${status}: ${stderr}`);
  return {
    milliseconds: Number(process.hrtime.bigint() - started) / 1e6,
    mebibytes: Number(/peak (\d+)/.exec(stderr)?.[1] ?? 0) / 1024,
  };
}

function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Runs the commands alternately, `usualRuns` times after a first run that does not count.
 * @returns medians in milliseconds
 */
function alternate(commands, usualRuns) {
  const times = commands.map(() => []);
  const [first, runs] = SMOKE ? [0, 1] : [-1, usualRuns];
  for (let run = first; run < runs; run++) {
    for (const [index, command] of commands.entries()) {
      const { milliseconds } = once(command(), false);
      if (run >= 0) times[index].push(milliseconds);
    }
  }
  return times.map(median);
}

try {
  const small = render(3, 3);
  const [bare, three] = alternate([() => ['-e', '0'], small], 10);
  process.stdout.write(
    `3 backends, 3 clients      ${(three / bare).toFixed(2)} × bare node (${three.toFixed(0)} ms, bare ${bare.toFixed(0)} ms; wanted ≤ 2.0)\n`,
  );

  const large = render(BACKENDS, CLIENTS);
  const [again, thousands] = alternate([small, large], 5);
  const { mebibytes } = once(large(), true);
  process.stdout.write(
    `${count(BACKENDS)} backends, ${count(CLIENTS)} clients  ${(thousands / again).toFixed(1)} × that (wanted ≤ 20), peak ${mebibytes.toFixed(0)} MiB (wanted ≤ 400)\n`,
  );

  const [base, ...grown] = alternate([small, ...SIZES.map((clients) => render(3, clients))], 5);
  const perClient = grown.map((milliseconds, index) => (1000 * (milliseconds - base)) / SIZES[index]);
  process.stdout.write(
    `per client at ${SIZES.join(', ')}: ${perClient.map((each) => `${each.toFixed(0)} µs`).join(', ')} (wanted: not growing)\n`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
