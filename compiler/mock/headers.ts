import { randomUUID } from 'node:crypto';
import type { Config } from './config.ts';
import type { Standing } from './limiter.ts';

export interface HeaderFacts {
  readonly config: Config;
  readonly region: string;
  readonly success: boolean;
  readonly clientRequestId: string | undefined;
  readonly deployment: string | undefined;
  readonly standing: Standing | undefined;
  readonly tookMs: number;
}

/** Headers of the service: names, each followed by its value. Errors have fewer. */
export function azureHeaders(facts: HeaderFacts): string[] {
  const { config, region, success, clientRequestId, deployment, standing, tookMs } = facts;
  const requestId = randomUUID();
  const headers = [
    'apim-request-id',
    requestId,
    'Strict-Transport-Security',
    'max-age=31536000; includeSubDomains; preload',
    'X-Content-Type-Options',
    'nosniff',
    'x-ms-region',
    region,
  ];
  if (!success) return headers;
  headers.push(
    'Cache-Control',
    'no-cache, must-revalidate',
    'access-control-allow-origin',
    '*',
    'x-accel-buffering',
    'no',
    'x-ms-rai-invoked',
    'true',
    'x-request-id',
    requestId,
    'x-ms-client-request-id',
    clientRequestId ?? 'Not-Set',
    'azureml-model-session',
    'd004-20250801000000',
  );
  if (standing && config.profile !== 'azure-ptu') {
    headers.push(
      'x-ratelimit-remaining-requests',
      String(standing.remainingRequests),
      'x-ratelimit-remaining-tokens',
      String(standing.remainingTokens),
    );
  }
  if (config.successHeaders === '2024' || config.profile === 'simulator') return headers;
  if (standing && config.profile !== 'azure-ptu') {
    headers.push(
      'x-ratelimit-limit-requests',
      String(standing.limitRequests),
      'x-ratelimit-limit-tokens',
      String(standing.limitTokens),
    );
  }
  if (deployment !== undefined) headers.push('x-ms-deployment-name', deployment);
  headers.push('x-envoy-upstream-service-time', String(Math.round(tookMs)));
  return headers;
}
