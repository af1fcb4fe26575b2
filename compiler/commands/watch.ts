import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Diagnostic } from '../diagnostics/diagnostic.ts';
import { type WatchEvent, Watcher } from '../watch/watcher.ts';
import { type RenderOptions, summary, writeRendered } from './render.ts';
import { EXIT, formatOf, printReport, type Terminal } from './terminal.ts';

/**
 * Set by who starts this beside an APISIX that runs already: the variables of the environment that came from env
 * files, separated by commas. The environment as it is is then what APISIX was started with.
 */
const EXPORTED = 'GENAI_GATEWAY_EXPORTED';

/** Renders, unless APISIX runs already; then follows the files until SIGINT or SIGTERM. */
export async function watch(options: RenderOptions, terminal: Terminal): Promise<number> {
  // From the start: a signal must not end the process while it writes.
  const ended = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) once(process, signal).then(() => ended.abort());
  const { environment } = terminal;
  const exported = environment[EXPORTED];
  const watcher = new Watcher({
    environment: exported === undefined ? environment : without(environment, exported.split(',')),
    envFiles: options.envFile ?? [],
    out: options.out,
    templates: options.templates,
    strict: options.strict ?? false,
  });
  const tell = (event: WatchEvent) =>
    print(event, { ...options, format: formatOf(options, watcher.settings) }, terminal);
  if (exported === undefined) {
    const result = await watcher.begin();
    await printReport(
      result.diagnostics,
      { ...options, format: formatOf(options, result.settings) },
      terminal,
    );
    const code = await writeRendered(result, options, terminal);
    if (code !== EXIT.ok) return code;
  } else {
    const problem = watcher.join(environment, performance.now());
    if (problem) {
      await printReport([problem], options, terminal);
      return EXIT.diagnostics;
    }
  }
  while (!ended.signal.aborted) {
    const { event, nextMs } = await watcher.look(performance.now());
    if (event) await tell(event);
    await sleep(nextMs, undefined, { signal: ended.signal }).catch(() => undefined);
  }
  return EXIT.ok;
}

function without(
  environment: Terminal['environment'],
  names: readonly string[],
): Record<string, string | undefined> {
  const rest = { ...environment };
  for (const name of names) delete rest[name];
  return rest;
}

async function print(event: WatchEvent, options: RenderOptions, terminal: Terminal): Promise<void> {
  const quiet = options.quiet ?? false;
  if (formatOf(options) === 'json') {
    const diagnostics = event.diagnostics.filter(isShown(quiet));
    if (quiet && diagnostics.length === 0) return;
    const { is, ...rest } = event;
    terminal.err(`${JSON.stringify({ time: new Date().toISOString(), event: is, ...rest, diagnostics })}\n`);
    return;
  }
  if (!quiet || event.is !== 'applied') terminal.err(`watch: ${headline(event)}\n`);
  await printReport(event.diagnostics, options, terminal);
}

const isShown =
  (quiet: boolean) =>
  ({ severity }: Diagnostic): boolean =>
    !quiet || severity === 'error';

function headline(event: WatchEvent): string {
  if (event.is !== 'applied')
    return event.is === 'refused'
      ? 'the settings are not good; the files stay as they are, and the gateway goes on with them'
      : 'the files cannot be written';
  const { written, changed, isGoodAgain } = event;
  const files = written.length > 0 ? `${written.join(', ')} written` : 'no file had to change';
  const what = changed.length > 0 ? ` (changed: ${summary(changed, ', ')})` : '';
  const later = written.includes('otel-collector.yaml')
    ? '; the collector reads its file when it starts'
    : '';
  return `${isGoodAgain ? 'the settings are good again; ' : ''}${files}${what}${later}`;
}
