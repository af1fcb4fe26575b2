/** Against an emulator of Azure: the gateway gets its tokens there, and its records are found by a query. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CONTAINER_TIMEOUT_MS, cannotRunGatewayTests } from '../support/apisix.ts';
import { emulatorFor, putResource, queried } from '../support/azure-emulator.ts';
import { type Gateway, HOST, startGateway } from '../support/gateway.ts';
import { textOf } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';
import { eventually } from '../support/until.ts';

const STREAM = 'Custom-APISIXGatewayLogs';
const COLUMNS = JSON.parse(textOf('deploy/azure/modules/gateway-logs/columns.json')) as { name: string }[];

const cannot =
  cannotRunGatewayTests('on an emulator of Azure') || cannotRun('an emulator of Azure', 'azure_emulator');

describe.skipIf(cannot)('on an emulator of Azure', () => {
  const tokens: string[] = [];
  let gateway: Gateway;
  let clientId: unknown;
  let workspace: unknown;

  beforeAll(async () => {
    const identity = await putResource('Microsoft.ManagedIdentity/userAssignedIdentities', 'id-gw', {});
    const log = await putResource('Microsoft.OperationalInsights/workspaces', 'log', {});
    const endpoint = await putResource('Microsoft.Insights/dataCollectionEndpoints', 'dce', {});
    const rule = await putResource('Microsoft.Insights/dataCollectionRules', 'dcr', {
      dataCollectionEndpointId: endpoint.id,
      destinations: { logAnalytics: [{ name: 'workspace', workspaceResourceId: log.id }] },
      streamDeclarations: { [STREAM]: { columns: COLUMNS } },
      dataFlows: [
        { streams: [STREAM], destinations: ['workspace'], outputStream: 'Custom-APISIXGatewayLogs_CL' },
      ],
    });
    clientId = identity.properties.clientId;
    workspace = log.properties.customerId;
    gateway = await startGateway({
      backends: [
        {
          keys: [],
          tokens: (token) => {
            tokens.push(token);
            return true;
          },
        },
      ],
      settings: {
        GATEWAY_WORKERS: '1',
        AZURE_OPENAI_KEY_0: '',
        AZURE_OPENAI_AUTH_MODE_0: 'entra',
        AZURE_CLIENT_ID: String(clientId),
        AZURE_POD_IDENTITY_AUTHORITY_HOST: emulatorFor(HOST),
        APIM_GATEWAY_LOGS_INGEST_URI: `${emulatorFor(HOST)}/dataCollectionRules/${rule.properties.immutableId}/streams/${STREAM}?api-version=2023-01-01`,
        APIM_GATEWAY_LOGS_BATCH_FLUSH_INTERVAL: '1',
      },
    });
  }, CONTAINER_TIMEOUT_MS);
  afterAll(() => gateway?.stop());

  test('the backend gets a token of the identity, for Azure OpenAI', async () => {
    const { status } = await gateway.chat('gpt-4o');
    expect(status).toBe(200);
    const [, claims = ''] = tokens.at(-1)?.split('.') ?? [];
    expect(JSON.parse(Buffer.from(claims, 'base64url').toString('utf8'))).toMatchObject({
      aud: expect.stringMatching(/^https:\/\/cognitiveservices\.azure\.com/),
      appid: clientId,
    });
  });

  test('the record of a request is found by a query, with columns that the table has and no others', async () => {
    const id = 'request-on-the-emulator';
    await gateway.chat('gpt-4o', {}, { 'x-request-id': id });
    let rows: Record<string, unknown>[] = [];
    await eventually(async () => {
      // The emulator names tables by their streams, whatever the rule says.
      rows = await queried(workspace, `APISIXGatewayLogs | where CorrelationId == '${id}' | take 2`);
      return rows.length > 0;
    });
    expect(rows).toMatchObject([{ ResponseCode: 200, Method: 'POST' }]);
    const names = COLUMNS.map(({ name }) => name);
    expect(Object.keys(rows[0] ?? {}).filter((name) => !names.includes(name))).toEqual([]);
  });
});
