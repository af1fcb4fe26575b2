import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Diagnostic } from '../diagnostics/diagnostic.ts';
import { type WatchEvent, Watcher } from '../watch/watcher.ts';
import type { Command } from './command.ts';
import { OUTPUT_FOLDER, settingsOptions } from './options.ts';
import { type RenderOptions, summary, writeRendered } from './render.ts';
import { EXIT, formatOf, printReport, type Terminal } from './terminal.ts';

export const command: Command<RenderOptions> = {
  description:
    'Render now, and again whenever an env file or a secret file changes. A change with errors is reported and not applied.',
  examples: [
    'genai-gateway watch -e /etc/genai-gateway/gateway.env --out rendered',
    'GATEWAY_LOG_FORMAT=json genai-gateway watch -e base.env -e prod.env --out rendered',
  ],
  options: [OUTPUT_FOLDER, ...settingsOptions(['text', 'json'])],
  run: ({ options, terminal }) => watch(options, terminal),
};

/**
 * Set by a program that starts `watch` next to a running APISIX: the names of variables that came from env files,
 * separated by commas. The current environment is then the environment with which APISIX was started.
 */
const EXPORTED = 'GENAI_GATEWAY_EXPORTED';

/** Renders, unless APISIX already runs, then follows the files until SIGINT or SIGTERM. */
async function watch(options: RenderOptions, terminal: Terminal): Promise<number> {
  if (options.envFile?.includes('-')) {
    terminal.err('error: watch cannot follow standard input (-e -): give a file\n');
    return EXIT.usage;
  }
  // Handle signals from the start, so that they cannot end the process while it writes.
  const ended = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) once(process, signal).then(() => ended.abort());
  const { environment } = terminal;
  const exported = environment[EXPORTED];
  const watcher = new Watcher({
    environment: exported === undefined ? environment : without(environment, exported.split(',')),
    envFiles: options.envFile ?? [],
    out: options.out,
    templates: options.templates,
    strict: options.strict ?? 'as-set',
    allow: options.allow,
  });
  const log = (event: WatchEvent) =>
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
    const { event, nextMs } = await watcher.poll(performance.now());
    if (event) await log(event);
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
    const { worded } = await import('../diagnostics/words.ts');
    const { is, ...rest } = event;
    const line = { time: new Date().toISOString(), event: is, ...rest, diagnostics: diagnostics.map(worded) };
    terminal.err(`${JSON.stringify(line)}\n`);
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
      ? 'the settings have errors; the rendered files and the running gateway keep the settings from before'
      : 'the rendered files cannot be written';
  const { written, changed, isGoodAgain } = event;
  const files = written.length > 0 ? `${written.join(', ')} written` : 'no rendered file changed';
  const what = changed.length > 0 ? ` (changed: ${summary(changed, ', ')})` : '';
  const later = written.includes('otel-collector.yaml')
    ? '; restart the collector, which reads its file only when it starts'
    : '';
  return `${isGoodAgain ? 'the settings have no errors any more; ' : ''}${files}${what}${later}`;
}
