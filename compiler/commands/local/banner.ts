/** What `up` says when the gateway is ready. Pure. */
import type { Backend, GatewayModel } from '../../model/model.ts';
import { MOCK_CLIENT, throttling } from '../mock.ts';
import { LOOPBACK } from './docker.ts';
import type { Prepared } from './prepare.ts';

export interface Place {
  readonly name: string;
  readonly port: number;
  readonly metricsPort: number;
}

/** For programs. */
export function summary({ name, port, metricsPort }: Place, { model, mocks }: Prepared): object {
  return {
    url: `http://${LOOPBACK}:${port}`,
    metrics: metricsUrl(metricsPort, model),
    container: name,
    mocks: mocks.map((mock) => ({ name: mock.name, url: `http://${LOOPBACK}:${mock.port}` })),
  };
}

const metricsUrl = (port: number, { telemetry }: GatewayModel) =>
  `http://${LOOPBACK}:${port}${telemetry.metrics.path}`;

/** Where everything is, and what to try. */
export function banner(place: Place, { model, mocks }: Prepared): string {
  const url = `http://${LOOPBACK}:${place.port}`;
  const lines = [
    `The gateway   ${url}   in the container ${place.name}`,
    `Its metrics   ${metricsUrl(place.metricsPort, model)}`,
    ...mocks.map(({ name, port }) => `A mock        http://${LOOPBACK}:${port}   plays the backend ${name}`),
  ];
  const chat = `curl -i ${url}/openai/v1/chat/completions \\
    ${credential(model)}-H 'Content-Type: application/json' \\
    -d '{"model": "${deploymentOf(model)}", "messages": [{"role": "user", "content": "Hello"}]}'`;
  const first = firstAsked(model.backends, mocks);
  const steps = first
    ? `
Try it in another terminal. A chat; the headers x-gateway-backend and x-gateway-attempts say who answered:
  ${chat}
Have ${first.name} throttle its next chat, as Azure does, for ten seconds:
  curl http://${LOOPBACK}:${first.port}/++/script -d '${throttling(1, 10)}'
Chat again: 200 all the same, and the log below shows the attempt at ${first.name} (429) and the one after it (200).
`
    : `
Try it in another terminal:
  ${chat}
`;
  return `${lines.join('\n')}\n${steps}
Ctrl-C stops it. Its log, within three seconds of each request:
`;
}

/** The mock of the backend that gets the next request before others do. */
function firstAsked(backends: readonly Backend[], mocks: Prepared['mocks']) {
  const [first] = backends
    .filter(({ weight }) => weight > 0)
    .toSorted((a, b) => b.priority - a.priority || b.weight - a.weight);
  return mocks.find(({ name }) => name === first?.name);
}

/** A header for curl. Only the key that everybody knows is shown. */
function credential({ authentication, clients: [client] }: GatewayModel): string {
  if (!authentication.required) return '';
  if (!client) return "-H 'Authorization: Bearer <a token of the issuer>' ";
  const key = client.key.reveal() === MOCK_CLIENT.key ? MOCK_CLIENT.key : `<the key of ${client.name}>`;
  return `-H 'api-key: ${key}' `;
}

const deploymentOf = ({ backends }: GatewayModel): string =>
  backends.find(({ deployments }) => deployments)?.deployments?.[0]?.name ?? 'gpt-4o';
