/**
 * deploy/azure applied by the real providers to a double of Azure, stack by stack: what is applied once needs no second apply,
 * no secret is in a state, the containers start with what Azure was told, and all of it can be destroyed.
 */
import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type MockBackend, startMockAzureOpenAI } from '../../compiler/mock/server.ts';
import { PORTS } from '../support/apisix.ts';
import {
  BOOTSTRAP,
  Deployment,
  ENVIRONMENTS,
  FOUNDRY,
  OBSERVABILITY,
  PLATFORM,
  putUpstream,
  secretFor,
  type Upstream,
  type Values,
  WORKLOAD,
} from '../support/azure-deployment.ts';
import { type AzureDouble, keyOf, startAzureDouble } from '../support/azure-double.ts';
import { HOST, hostAddress } from '../support/gateway.ts';
import {
  answered,
  BUILD_TIMEOUT_MS,
  buildImage,
  cannotRunImageTests,
  reachable,
  startContainer,
} from '../support/image.ts';
import { type MockIdentity, startMockIdentity } from '../support/mock-identity.ts';
import { ROOT } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';
import { TerraformCopy } from '../support/terraform.ts';
import { chatBody } from '../support/traffic.ts';
import { FILES } from '../terraform/folders.ts';

/** The providers wait for minutes until Azure is consistent. */
const PATIENCE_MS = 1_200_000;

/** As Resource Manager gets it. */
interface ContainerApp {
  readonly configuration: {
    readonly secrets: readonly {
      readonly name: string;
      readonly keyVaultUrl: string;
      readonly value?: string;
    }[];
    readonly ingress: Values;
  };
  readonly template: {
    readonly terminationGracePeriodSeconds: number;
    readonly scale: Values;
    readonly containers: readonly Container[];
    readonly initContainers: readonly Container[];
  };
}

interface Container {
  readonly name: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string; readonly secretRef?: string }[];
  readonly probes?: readonly Values[];
}

const IMAGE = `genai-gateway-azure-test:${randomUUID()}`;

const example = (stack: string): string => `${ROOT}/${stack}/terraform.tfvars.prod.example`;

describe.skipIf(cannotRun('applying deploy/azure to a double of Azure', 'terraform', 'openssl'))(
  'deploy/azure on a double of Azure',
  () => {
    let azure: AzureDouble;
    let deployment: Deployment;
    const upstreams = new Map<string, Upstream>();
    const apps = new Map<string, ContainerApp>();

    beforeAll(async () => {
      azure = await startAzureDouble();
      deployment = new Deployment(new TerraformCopy(FILES), azure);
      // One after the other: a cache of plugins takes one writer.
      for (const stack of [BOOTSTRAP, OBSERVABILITY, PLATFORM, FOUNDRY, WORKLOAD])
        await deployment.prepare(stack);
    }, PATIENCE_MS);
    afterAll(async () => {
      deployment?.copy.remove();
      await azure?.stop();
    });

    /** The Redis of our prod. */
    const redis = (): string =>
      azure.resources().find((id) => /rg-genai-prod.*redisEnterprise\/[^/]+\/databases\/default$/.test(id)) ??
      '';

    /** The id of the only resource of a type. */
    const only = (type: string): string => {
      const found = azure.resources().filter((id) => new RegExp(`/${type}/[^/]+$`, 'i').test(id));
      expect(found).toHaveLength(1);
      return found[0] ?? '';
    };

    // Stacks of several environments at the same time: the providers do little but wait.
    test.concurrent(
      'the stack of the state needs no second apply, and its account has no keys and no public blobs',
      async () => {
        const again = await deployment.apply(BOOTSTRAP, 'prod', example(BOOTSTRAP));
        expect(again.code, again.stdout).toBe(0);
        expect(azure.properties(only('storageAccounts'))).toMatchObject({
          allowSharedKeyAccess: false,
          allowBlobPublicAccess: false,
          minimumTlsVersion: 'TLS1_2',
          supportsHttpsTrafficOnly: true,
        });
      },
      PATIENCE_MS,
    );

    test.concurrent(
      'the stacks of observability, registry and vault need no second apply',
      async () => {
        const again = await deployment.apply(OBSERVABILITY, 'prod', example(OBSERVABILITY));
        expect(again.code, again.stdout).toBe(0);
        expect(await deployment.outputs(OBSERVABILITY, 'prod')).toMatchObject({
          gateway_logs_ingest_uri: expect.stringMatching(
            /^https:\/\/[^/]+\.ingest\.monitor\.azure\.com\/dataCollectionRules\/dcr-[0-9a-f]{32}\/streams\/Custom-APISIXGatewayLogs\?api-version=/,
          ),
        });
        const { log_analytics_workspace_id } = await deployment.outputs(OBSERVABILITY, 'prod');
        const last = await deployment.apply(PLATFORM, 'prod', example(PLATFORM), {
          log_analytics_workspace_id,
        });
        expect(last.code, last.stdout).toBe(0);
        expect(azure.properties(only('rg-genai-prod-.*/vaults'))).toMatchObject({
          enableRbacAuthorization: true,
          enablePurgeProtection: true,
        });
        expect(azure.properties(only('registries'))).toMatchObject({ adminUserEnabled: false });
      },
      PATIENCE_MS,
    );

    test.concurrent.each(Object.entries(ENVIRONMENTS))(
      'accounts and gateway of %s need no second apply',
      async (of, { foundry, workload, completed }) => {
        const accounts = await deployment.apply(FOUNDRY, of, foundry);
        expect(accounts.code, accounts.stdout).toBe(0);
        const { azure_openai_endpoints, ...network } = await deployment.outputs(FOUNDRY, of);
        const names = [
          'virtual_network_id',
          'container_apps_subnet_id',
          'container_apps_subnet_prefix',
          'private_endpoints_subnet_id',
          'private_dns_zone_ids',
        ];
        const upstream = putUpstream(azure, of);
        upstreams.set(of, upstream);
        const again = await deployment.apply(WORKLOAD, of, workload, {
          ...upstream.values,
          use_provisioned_azure_openai: true,
          azure_openai_backends: azure_openai_endpoints,
          ...Object.fromEntries(names.map((name) => [name, network[name]])),
          ...completed,
        });
        expect(again.code, again.stdout).toBe(0);
        const { gateway_app_name, resource_group_name } = await deployment.outputs(WORKLOAD, of);
        const [id = ''] = azure
          .resources()
          .filter(
            (each) => each.includes(`/${resource_group_name}/`) && each.endsWith(`/${gateway_app_name}`),
          );
        apps.set(of, azure.properties(id) as unknown as ContainerApp);
      },
      PATIENCE_MS,
    );

    test('Azure is told of probes, of a time to drain, and of scaling by requests', () => {
      expect([...apps.keys()].sort()).toEqual(Object.keys(ENVIRONMENTS).sort());
      for (const { configuration, template } of apps.values()) {
        expect(template.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(250);
        const gateway = template.containers.find(({ name }) => name === 'gateway');
        expect(gateway?.probes).toEqual(
          expect.arrayContaining(
            ['Startup', 'Readiness', 'Liveness'].map((type) =>
              expect.objectContaining({ type, httpGet: expect.objectContaining({ port: PORTS.probes }) }),
            ),
          ),
        );
        expect(template.scale.rules).toEqual(
          expect.arrayContaining([expect.objectContaining({ http: expect.anything() })]),
        );
        expect(configuration.ingress).toMatchObject({ targetPort: PORTS.proxy, allowInsecure: false });
      }
    });

    test('every secret is a reference to the vault, and every variable that is one names it', () => {
      for (const { configuration, template } of apps.values()) {
        for (const secret of configuration.secrets) {
          expect(secret.keyVaultUrl).toMatch(new RegExp(`\\.vault\\.azure\\.net/secrets/${secret.name}$`));
          expect(secret.value ?? '').toBe('');
        }
        const names = configuration.secrets.map(({ name }) => name);
        for (const { env = [] } of [...template.containers, ...template.initContainers])
          for (const { secretRef } of env) if (secretRef !== undefined) expect(names).toContain(secretRef);
      }
    });

    test('the vault has the key of Redis and the connection string that Azure made', () => {
      const { vault, appInsights } = upstreams.get('our prod') as Upstream;
      expect(azure.secret(vault, 'responses-affinity-redis-password')).toBe(keyOf(redis()));
      expect(azure.secret(vault, 'applicationinsights-connection-string')).toBe(
        azure.properties(appInsights)?.ConnectionString,
      );
    });

    test('no state of accounts and gateways has a key, a connection string or the secret of who applied it', () => {
      const redises = azure
        .resources()
        .filter((id) => /redisEnterprise\/[^/]+\/databases\/default$/.test(id));
      const accounts = azure.resources().filter((id) => /CognitiveServices\/accounts\/[^/]+$/.test(id));
      expect(redises.length).toBeGreaterThan(0);
      expect(accounts.length).toBeGreaterThan(0);
      const secrets = [
        ...redises.flatMap((id) => [keyOf(id, 1), keyOf(id, 2)]),
        ...accounts.flatMap((id) => [keyOf(id, 1), keyOf(id, 2)]),
        ...[...upstreams.values()].map(({ appInsights }) =>
          String(azure.properties(appInsights)?.ConnectionString),
        ),
        String(azure.environment.ARM_CLIENT_SECRET),
      ];
      for (const state of deployment.states(FOUNDRY, WORKLOAD))
        for (const secret of secrets) expect(state).not.toContain(secret);
    });

    describe.skipIf(cannotRunImageTests('containers as deploy/azure starts them'))('its containers', () => {
      let mock: MockBackend;
      let identity: MockIdentity;
      let folder = '';
      beforeAll(async () => {
        const host = await hostAddress();
        identity = await startMockIdentity({ host, hostName: HOST });
        mock = await startMockAzureOpenAI({ host, keys: [], tokens: (token) => identity.accepts(token) });
        await buildImage(IMAGE);
      }, BUILD_TIMEOUT_MS);
      afterAll(async () => {
        await mock?.stop();
        await identity?.stop();
        execFileSync('docker', ['rmi', '--force', IMAGE], { stdio: 'ignore' });
      });
      beforeEach(() => {
        folder = mkdtempSync(join(tmpdir(), 'genai-gateway-azure-containers-'));
        // As an EmptyDir is.
        chmodSync(folder, 0o777);
      });
      afterEach(() => rmSync(folder, { recursive: true, force: true }));

      /** The variables as Azure was told, with the backends' and the identity's addresses of the mocks. */
      function environmentOf({ env = [] }: Container): Record<string, string> {
        return {
          ...Object.fromEntries(
            env.map(({ name, value = '', secretRef }) => {
              if (secretRef !== undefined) return [name, secretFor(name)];
              if (/^AZURE_OPENAI_ENDPOINT_\d+$/.test(name)) return [name, `http://${HOST}:${mock.port}`];
              return [name, value];
            }),
          ),
          // Container Apps sets both.
          ...identity.environment('endpoint'),
        };
      }

      test.each(Object.keys(ENVIRONMENTS))(
        'of %s start in their order, are ready, answer, and drain',
        async (of) => {
          const { template } = apps.get(of) as ContainerApp;
          const [render] = template.initContainers;
          const gateway = template.containers.find(({ name }) => name === 'gateway');
          if (render === undefined || gateway === undefined) throw new Error(JSON.stringify(template));
          const volume = `--volume=${folder}:/shared-configs`;
          const rendered = startContainer({
            image: IMAGE,
            ...(render.args ? { command: render.args } : {}),
            environment: environmentOf(render),
            options: [volume],
          });
          const { code, stderr } = await rendered.ended();
          rendered.remove();
          expect(code, stderr).toBe(0);
          const container = startContainer({
            image: IMAGE,
            ...(gateway.args ? { command: gateway.args } : {}),
            environment: environmentOf(gateway),
            options: [volume, ...reachable(PORTS.proxy, PORTS.probes)],
          });
          try {
            await answered(container, () => fetch(`${container.url(PORTS.probes)}/readyz`));
            const answer = await answered(container, () =>
              fetch(`${container.url(PORTS.proxy)}/openai/v1/chat/completions`, {
                method: 'POST',
                headers: {
                  'api-key': secretFor('GATEWAY_CLIENT_KEY_0'),
                  'content-type': 'application/json',
                },
                body: chatBody('gpt-5-mini'),
              }),
            );
            expect(await answer.json()).toMatchObject({ object: 'chat.completion' });
            container.kill('TERM');
            expect((await container.ended()).code).toBe(0);
          } finally {
            container.remove();
          }
        },
        120_000,
      );
    });

    test(
      'all of it is destroyed',
      async () => {
        await deployment.destroyAll();
        expect(azure.resources().filter((id) => !/\/rg-(?:platform|obs)(?:\/|$)/.test(id))).toEqual([]);
      },
      PATIENCE_MS,
    );

    test('nothing was asked of a name that the double does not play', () => {
      expect(azure.calls.filter(({ status, method }) => method === 'CONNECT' && status === 403)).toEqual([]);
    });
  },
);
