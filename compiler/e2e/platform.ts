/** Replicas of the gateway, as Azure Container Apps reports them. */
import { execFile } from 'node:child_process';
import type { Replicas } from './observation.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** @returns what the program printed, or why it failed */
function az(
  args: readonly string[],
  environment: Environment,
): Promise<{ readonly json: unknown } | { readonly reason: string }> {
  return new Promise((resolve) => {
    execFile(
      'az',
      [...args, '--output', 'json'],
      { env: environment, encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error) {
          const missing = error.code === 'ENOENT';
          const [line = 'it failed'] = stderr.trim().split('\n');
          resolve({ reason: missing ? 'the program az is missing' : `az: ${line}` });
          return;
        }
        try {
          resolve({ json: JSON.parse(stdout) });
        } catch {
          resolve({ reason: 'az printed no JSON' });
        }
      },
    );
  });
}

interface Metrics {
  readonly value?: readonly {
    readonly timeseries?: readonly { readonly data?: readonly { readonly maximum?: number | null }[] }[];
  }[];
}

/**
 * The replicas of a container app during a run.
 * @param app its resource id; undefined: there is no platform to ask
 * @returns the replicas, or why they are not known
 */
export async function replicasDuring(
  app: string | undefined,
  from: Date,
  to: Date,
  environment: Environment,
): Promise<Replicas | string> {
  if (app === undefined) return 'no platform (--container-app)';
  const shown = await az(
    ['containerapp', 'show', '--ids', app, '--query', 'properties.template.scale.minReplicas'],
    environment,
  );
  if ('reason' in shown) return shown.reason;
  const metrics = await az(
    [
      ...[
        'monitor',
        'metrics',
        'list',
        '--resource',
        app,
        '--metric',
        'Replicas',
        '--aggregation',
        'Maximum',
      ],
      ...['--interval', 'PT1M', '--start-time', from.toISOString(), '--end-time', to.toISOString()],
    ],
    environment,
  );
  if ('reason' in metrics) return metrics.reason;
  const points = ((metrics.json as Metrics).value ?? [])
    .flatMap(({ timeseries = [] }) => timeseries)
    .flatMap(({ data = [] }) => data)
    .map(({ maximum }) => maximum)
    .filter((maximum) => typeof maximum === 'number');
  if (points.length === 0) return 'the platform has no metric Replicas for this time';
  return { least: typeof shown.json === 'number' ? shown.json : 0, most: Math.max(...points) };
}
