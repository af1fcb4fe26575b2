/** The text that `up` prints when the gateway is ready. Pure. */

import { MOCK_CLIENT, throttling } from '../../mock/start.ts';
import type { Backend, GatewayModel } from '../../model/model.ts';
import { LOOPBACK } from './docker.ts';
import type { Prepared } from './prepare.ts';

export interface Place {
  readonly name: string;
  readonly port: number;
  readonly metricsPort: number;
}

/** The addresses of the gateway and of its mocks as JSON data, for programs. */
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

/** The addresses, and commands to try. */
export function banner(place: Place, { model, mocks }: Prepared): string {
  const url = `http://${LOOPBACK}:${place.port}`;
  const lines = [
    `Gateway   ${url}   container ${place.name}`,
    `Metrics   ${metricsUrl(place.metricsPort, model)}`,
    ...mocks.map(({ name, port }) => `Mock      http://${LOOPBACK}:${port}   is the backend ${name}`),
  ];
  const chat = `curl -i ${url}/openai/v1/chat/completions \\
    ${credential(model)}-H 'Content-Type: application/json' \\
    -d '{"model": "${deploymentOf(model)}", "messages": [{"role": "user", "content": "Hello"}]}'`;
  const first = firstAsked(model.backends, mocks);
  const steps = first
    ? `
Try it in another terminal. Send a chat; the headers x-gateway-backend and x-gateway-attempts show which backend answered:
  ${chat}
Make ${first.name} answer its next chat with 429, and ask for a pause of ten seconds, as Azure does when it throttles:
  curl http://${LOOPBACK}:${first.port}/++/script -d '${throttling(1, 10)}'
Send the chat again: you still get 200. The log below shows the attempt at ${first.name} (429) and the next attempt (200).
`
    : `
Try it in another terminal:
  ${chat}
`;
  return `${lines.join('\n')}\n${steps}
Press Ctrl-C to stop. Each request appears in this log within three seconds:
`;
}

/** The mock of the backend that gets the next request first. */
function firstAsked(backends: readonly Backend[], mocks: Prepared['mocks']) {
  const [first] = backends
    .filter(({ weight }) => weight > 0)
    .toSorted((a, b) => b.priority - a.priority || b.weight - a.weight);
  return mocks.find(({ name }) => name === first?.name);
}

/** A curl header with the client's key. Only the public key of the mock client is printed. */
function credential({ authentication, clients: [client] }: GatewayModel): string {
  if (!authentication.required) return '';
  if (!client) return "-H 'Authorization: Bearer <a token of the issuer>' ";
  const key = client.key.reveal() === MOCK_CLIENT.key ? MOCK_CLIENT.key : `<the key of ${client.name}>`;
  return `-H 'api-key: ${key}' `;
}

const deploymentOf = ({ backends }: GatewayModel): string =>
  backends.find(({ deployments }) => deployments)?.deployments?.[0]?.name ?? 'gpt-4o';
