/** Makes APISIX's log readable. Pure. */
import type { Backend } from '../../model/model.ts';

/** Converts a line of the log; undefined for a line that should not be shown. */
export type ReadableLine = (line: string) => string | undefined;

/** Converts lines of the access log and of the error log; other lines stay unchanged. */
export function readableLines(backends: readonly Pick<Backend, 'name' | 'origin'>[]): ReadableLine {
  const names = backendNames(backends);
  return (line) => {
    if (line.startsWith('{')) return accessLine(line, names) ?? line;
    return errorLine(line) ?? line;
  };
}

/** Names of backends by address. An address that several backends share is not in the map. */
function backendNames(backends: readonly Pick<Backend, 'name' | 'origin'>[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const shared = new Set<string>();
  for (const { name, origin } of backends) {
    const { protocol, hostname, port } = new URL(origin);
    const address = `${hostname}:${port || (protocol === 'https:' ? 443 : 80)}`;
    if (names.has(address)) shared.add(address);
    names.set(address, name);
  }
  for (const address of shared) names.delete(address);
  return names;
}

/** How the answer cache served a request without a backend, by the field `cache`. */
const FROM_CACHE: Readonly<Record<string, string>> = {
  hit: 'from the answer cache',
  coalesced: 'with the answer to an identical request',
};

/** `08:25:57 POST /openai/v1/chat/completions gpt-4o 200 in 4 ms, 2 attempts: mock-0 429, mock-1 200` */
function accessLine(line: string, names: ReadonlyMap<string, string>): string | undefined {
  let fields: Record<string, unknown>;
  try {
    fields = JSON.parse(line);
  } catch {
    return undefined;
  }
  const { time, method, path, status, duration_s, model, upstream, upstream_status, cache } = fields;
  if (![time, method, path, status].every((each) => typeof each === 'string')) return undefined;
  const list = (value: unknown) => (typeof value === 'string' && value !== '' ? value.split(/, | : /) : []);
  const statuses = list(upstream_status);
  const attempts = list(upstream).map(
    (address, index) => `${names.get(address) ?? address} ${statuses[index] ?? '-'}`,
  );
  const took = typeof duration_s === 'string' ? ` in ${Math.round(Number(duration_s) * 1000)} ms` : '';
  const stored = typeof cache === 'string' ? FROM_CACHE[cache] : undefined;
  const attempted =
    attempts.length === 0
      ? (stored ?? 'no backend attempted')
      : `${attempts.length === 1 ? '1 attempt' : `${attempts.length} attempts`}: ${attempts.join(', ')}`;
  const what = [method, path, ...(typeof model === 'string' && model !== '' ? [model] : []), status];
  return `${clock(new Date(String(time)))} ${what.join(' ')}${took}, ${attempted}`;
}

const ERROR_LINE =
  /^(\d{4})\/(\d\d)\/(\d\d) (\d\d:\d\d:\d\d) \[(\w+)\] \d+#\d+: (?:\*\d+ )?(?:\[lua\] [\w./-]+:\d+: (?:[\w.:<>/ -]{1,80}\(\): )?)?(.*)$/;

/** nginx appends this request data, which the access log has too. */
const ABOUT_THE_REQUEST = /, (?:client: \S+, server: |context: ).*$/;

/** `08:25:57 [warn] backend mock-0 throttled: 429, cooling down for 5000 ms` */
function errorLine(line: string): string | undefined {
  const [, year, month, day, time, level, message] = ERROR_LINE.exec(line) ?? [];
  if (message === undefined) return undefined;
  // The clock of the container is in UTC.
  const at = new Date(`${year}-${month}-${day}T${time}Z`);
  return `${clock(at)} [${level}] ${message.replace(ABOUT_THE_REQUEST, '')}`;
}

/** The time in the user's time zone. */
function clock(at: Date): string {
  const two = (number: number) => String(number).padStart(2, '0');
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':');
}
