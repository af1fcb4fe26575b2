/** The pure parts of `deploy`. */
import { describe, expect, test } from 'vitest';
import type { Revision } from '../../compiler/deploy/azure-cli.ts';
import { adviceFor, causeOf, isWorthWaiting } from '../../compiler/deploy/causes.ts';
import { inherited } from '../../compiler/deploy/children.ts';
import { dockerfileFromPackage, imageSource } from '../../compiler/deploy/image.ts';
import { countsOf, describePlan, duration } from '../../compiler/deploy/report.ts';
import { digestOf, rollbackTarget } from '../../compiler/deploy/revisions.ts';
import { chosenSteps, destroyOrder } from '../../compiler/deploy/steps.ts';
import { eventOf, outputsOf, planOf, stateLockIn } from '../../compiler/deploy/terraform-json.ts';
import { howToTry } from '../../compiler/deploy/try-it.ts';
import { hasFoundry, problemsOf, valuesFor } from '../../compiler/deploy/variables.ts';
import { ROOT, textOf } from '../support/repository.ts';

describe('the steps', () => {
  const facts = { hasFoundry: true, hasImage: false, hasTestMode: false };
  const names = (...args: Parameters<typeof chosenSteps>) =>
    chosenSteps(...args)
      .filter(({ skipped }) => skipped === undefined)
      .map(({ name }) => name);

  test('are all steps in order without options', () => {
    expect(names({}, facts)).toEqual([
      'bootstrap',
      'observability',
      'platform',
      'foundry',
      'image',
      'secrets',
      'workload',
      'ready',
    ]);
  });

  test('are those that are named, by either name, in their own order', () => {
    expect(names({ stack: ['20-workload', 'image'] }, facts)).toEqual(['image', 'workload', 'ready']);
    expect(names({ stack: ['platform'] }, facts)).toEqual(['platform']);
  });

  test('are secrets and workload with --settings-only', () => {
    expect(names({ settingsOnly: true }, facts)).toEqual(['secrets', 'workload', 'ready']);
  });

  test.each([
    [{ azureOpenai: false }, facts, 'foundry', '--no-azure-openai'],
    [{}, { ...facts, hasFoundry: false }, 'foundry', 'the variables name neither accounts nor a network'],
    [{ imageBuild: false }, facts, 'image', '--no-image-build'],
    [{}, { ...facts, hasImage: true }, 'image', 'the variable gateway_image names an image'],
    [
      {},
      { ...facts, hasFoundry: false, hasTestMode: true },
      'foundry',
      'the simulators of the test mode take the place of accounts',
    ],
    [
      {},
      { ...facts, hasImage: true, hasTestMode: true },
      'image',
      'the variables gateway_image and simulator_image name images',
    ],
  ])('are without one that is not needed, with the reason: %j', (selection, given, name, reason) => {
    expect(chosenSteps(selection, given).find((step) => step.name === name)?.skipped).toBe(reason);
  });

  test('of a removal begin with the stack whose endpoints are in the network of another', () => {
    expect(destroyOrder({}, { platformHasPrivateEndpoint: true })).toEqual([
      'workload',
      'platform',
      'foundry',
      'observability',
      'bootstrap',
    ]);
    expect(destroyOrder({ stack: ['workload', 'platform'] }, { platformHasPrivateEndpoint: false })).toEqual([
      'workload',
      'platform',
    ]);
  });
});

describe("Terraform's JSON", () => {
  test('gives events of resources and errors, and ignores the rest', () => {
    const hook = { resource: { addr: 'a.b' }, action: 'create', elapsed_seconds: 30 };
    expect(eventOf(JSON.stringify({ type: 'apply_progress', hook }))).toEqual({
      kind: 'running',
      address: 'a.b',
      action: 'create',
      seconds: 30,
    });
    expect(eventOf(JSON.stringify({ type: 'apply_errored', hook }))).toMatchObject({
      kind: 'ended',
      ok: false,
    });
    expect(
      eventOf(JSON.stringify({ type: 'apply_complete', hook: { ...hook, action: 'read' } })),
    ).toBeUndefined();
    expect(
      eventOf(
        JSON.stringify({ type: 'diagnostic', diagnostic: { severity: 'error', summary: 's', detail: 'd' } }),
      ),
    ).toEqual({ kind: 'diagnostic', diagnosis: { severity: 'error', summary: 's', detail: 'd' } });
    for (const line of ['', 'text', '{', '[]', '{"type":"version"}']) expect(eventOf(line)).toBeUndefined();
  });

  test('of a plan names attributes that change, without their values', () => {
    const { changes, outputs } = planOf(
      JSON.stringify({
        resource_changes: [
          {
            address: 'a.b',
            type: 'a',
            mode: 'managed',
            change: {
              actions: ['update'],
              before: { name: 'n', password: 'old-secret', same: 1 },
              after: { name: 'n', password: 'new-secret', same: 1 },
              after_unknown: { id: true },
            },
          },
          {
            address: 'c',
            type: 'c',
            mode: 'managed',
            change: { actions: ['create', 'delete'], before: {}, after: {} },
          },
          { address: 'd', type: 'd', mode: 'data', change: { actions: ['read'], before: null, after: {} } },
          { address: 'e', type: 'e', mode: 'managed', change: { actions: ['no-op'], before: {}, after: {} } },
        ],
        output_changes: {
          settings: { actions: ['create'], after: { a: '1' }, after_unknown: { b: true } },
          url: { actions: ['no-op'], after: 'x', after_unknown: false },
        },
      }),
    );
    const lines = describePlan(changes);
    expect(lines).toEqual(['~ update  a.b (n): id, password', '! replace c']);
    expect(lines.join()).not.toMatch(/secret/);
    expect(countsOf(changes)).toBe('1 to update, 1 to replace');
    expect(outputs).toEqual({ settings: { a: '1', b: null }, url: 'x' });
  });

  test('gives outputs by name', () => {
    expect(outputsOf('{"a":{"value":1},"b":{"sensitive":true,"value":"x"}}')).toEqual({ a: 1, b: 'x' });
  });

  test('names who holds the lock of a state', () => {
    const text =
      'Error acquiring the state lock\nLock Info:\n  ID:        1\n  Who:       a@b\n  Created:   now\n  Operation: OperationTypePlan\n';
    expect(stateLockIn(text)).toEqual({ id: '1', who: 'a@b', since: 'now', operation: 'OperationTypePlan' });
    expect(stateLockIn('other')).toBeUndefined();
  });
});

describe('the cause of an error', () => {
  test.each([
    ['StatusCode=403 Code="AuthorizationPermissionMismatch"', 'role', true],
    ['Forbidden: InnerError ForbiddenByRbac', 'role', true],
    ["unable to fetch secret 'a' using Managed identity 'b'", 'role', true],
    ['UNAUTHORIZED: authentication required', 'role', true],
    ['You do not have the required permissions needed to perform this operation.', 'role', true],
    ['toomanyrequests: You have reached your unauthenticated pull rate limit.', 'pull-limit', false],
    ['The request may be blocked by network rules of storage account.', 'firewall', false],
    ['StatusCode=409 AnotherOperationInProgress', 'busy', true],
    ["AuthorizationFailed: does not have authorization to perform action 'X/write'", 'rights', false],
    ['InsufficientQuota: this operation requires 50 new capacity', 'quota', false],
    ['Error acquiring the state lock', 'lock', false],
    ['FlagMustBeSetForRestore', 'name', false],
    ['Please run az login', 'login', false],
    ['ForbiddenByFirewall', 'firewall', false],
    ['something else', 'unknown', false],
  ] as const)('%s is %s', (text, cause, waits) => {
    expect(causeOf(text)).toBe(cause);
    expect(isWorthWaiting(causeOf(text))).toBe(waits);
    if (cause !== 'unknown' && cause !== 'lock') expect(adviceFor(cause, text)).toMatch(/\w/);
  });
});

describe('variables', () => {
  const inputs = {
    given: { location: 'northeurope', log_analytics_workspace_id: 'mine', acr_sku: 'Basic' },
    place: { subscriptionId: 's', tenantId: 't', location: 'westeurope', environmentCode: 'dev' },
    outputs: { observability: { log_analytics_workspace_id: 'theirs' } },
    settings: new Map(),
    secrets: [],
    image: undefined,
    secretsRevision: '',
    useFoundry: false,
    testMode: false,
    simulatorImage: undefined,
  };

  test('of the user win over what other stacks have, and empty ones do not', () => {
    const declared = ['location', 'log_analytics_workspace_id', 'acr_sku'];
    expect(valuesFor('platform', declared, inputs)).toEqual({
      location: 'westeurope',
      log_analytics_workspace_id: 'mine',
      acr_sku: 'Basic',
    });
    const empty = { ...inputs, given: { log_analytics_workspace_id: '' } };
    expect(valuesFor('platform', declared, empty).log_analytics_workspace_id).toBe('theirs');
  });

  test.each([
    [{}, false],
    [{ azure_openai_instances: [] }, false],
    [{ azure_openai_instances: [{ name_suffix: 'a' }] }, true],
    [{ azure_openai_network_isolation: true }, true],
    [{ azure_openai_instances: [{ name_suffix: 'a' }], use_provisioned_azure_openai: false }, false],
  ])('%j: 15-foundry is needed: %j', (given, expected) => {
    expect(hasFoundry(given)).toBe(expected);
  });

  test('that are examples are refused', () => {
    const problems = problemsOf({
      given: {
        subscription_id: '00000000-0000-0000-0000-000000000000',
        gateway_image: 'REGISTRY.azurecr.io/genai-gateway:0.1.0',
      },
      declared: new Set(['subscription_id', 'gateway_image']),
      settings: new Map(),
      secrets: [],
    });
    expect(problems.map(({ name }) => name)).toEqual(['gateway_image', 'subscription_id']);
  });
});

describe('what a program inherits', () => {
  const environment = {
    PATH: '/bin',
    HOME: '/root',
    GATEWAY_CLIENT_KEY_0: 'a',
    AZURE_OPENAI_KEY_1: 'b',
    OTHER: 'the-value-of-a-secret',
    ARM_CLIENT_SECRET: 'c',
    AZURE_CLIENT_SECRET: 'd',
    DOCKER_HOST: 'e',
    TF_VAR_location: 'elsewhere',
    TF_CLI_ARGS_plan: '-refresh=false',
    TF_LOG: 'trace',
    TF_CLI_CONFIG_FILE: '/etc/terraformrc',
    IDENTITY_HEADER: 'f',
  };
  const names = (tool: 'terraform' | 'az' | 'docker') =>
    Object.keys(inherited(tool, environment, new Set(['the-value-of-a-secret']))).sort();

  test('is no secret setting, and no credential of another program', () => {
    expect(names('terraform')).toEqual([
      'ARM_CLIENT_SECRET',
      'AZURE_CLIENT_SECRET',
      'DOCKER_HOST',
      'HOME',
      'IDENTITY_HEADER',
      'PATH',
      'TF_CLI_CONFIG_FILE',
    ]);
    expect(names('az')).toEqual(['AZURE_CLIENT_SECRET', 'DOCKER_HOST', 'HOME', 'IDENTITY_HEADER', 'PATH']);
    expect(names('docker')).toEqual(['DOCKER_HOST', 'HOME', 'PATH']);
  });
});

describe('the image', () => {
  test('is built by the Dockerfile of the repository, from the program that is already built', () => {
    const text = dockerfileFromPackage(textOf('docker/Dockerfile'));
    expect(text).not.toMatch(/npm|COPY compiler|COPY schemas/);
    expect(text).toMatch(/^COPY dist dist$/m);
    expect(text).toMatch(/^FROM \$\{APISIX_IMAGE\}$/m);
    expect(() => dockerfileFromPackage('FROM scratch')).toThrow(/no part that builds/);
  });

  test('has a tag that its contents decide, and everything that its Dockerfile copies', () => {
    const { files, image } = imageSource(ROOT);
    expect(imageSource(ROOT).image).toBe(image);
    expect(image).toMatch(/^genai-gateway:\d+\.\d+\.\d+-[0-9a-f]{12}$/);
    const dockerfile = files.get('Dockerfile')?.toString() ?? '';
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(\S+) /gm)].map(([, path = '']) => path);
    expect(copied.length).toBeGreaterThan(4);
    for (const path of copied)
      expect(
        [...files.keys()].some((file) => file === path || file.startsWith(`${path}/`)),
        path,
      ).toBe(true);
    expect([...files.keys()].filter((file) => /\.env$/.test(file))).toEqual(['examples/minimal.env']);
  });
});

describe('revisions', () => {
  const revision = (number: number, more: Partial<Revision> = {}): Revision => ({
    name: `app--${number}`,
    created: `2026-12-01T00:00:0${number}`,
    active: false,
    provisioning: 'Provisioned',
    health: 'Healthy',
    running: 'Running',
    image: `r.azurecr.io/genai-gateway@sha256:${String(number).repeat(64)}`,
    settings: {},
    secrets: [],
    ...more,
  });

  test('the target is the newest earlier one that worked and differs', () => {
    const list = [
      revision(4),
      revision(3, { provisioning: 'Failed' }),
      revision(2, { image: revision(4).image }),
      revision(1),
    ];
    expect(rollbackTarget(list, undefined)).toMatchObject({ to: { name: 'app--1' } });
    expect(rollbackTarget([revision(1)], undefined)).toHaveProperty('reason');
    expect(rollbackTarget([], undefined)).toHaveProperty('reason');
  });

  test('a named one is found by its name, its end, or its digest', () => {
    const list = [revision(2), revision(1)];
    for (const named of ['app--1', '1', `sha256:${'1'.repeat(64)}`])
      expect(rollbackTarget(list, named), named).toMatchObject({ to: { name: 'app--1' } });
    expect(rollbackTarget(list, 'app--2')).toEqual({ reason: 'app--2 is the newest revision' });
  });

  test('a digest is shortened, and a tag is shown', () => {
    expect(digestOf(revision(1).image)).toBe('genai-gateway@sha256:111111111111');
    expect(digestOf('r.azurecr.io/genai-gateway:1.2')).toBe('genai-gateway:1.2');
  });
});

describe('what is printed', () => {
  test('durations are readable', () => {
    expect([900, 30_000, 60_000, 90_000].map(duration)).toEqual(['1 s', '30 s', '1 min', '1 min 30 s']);
  });

  test('at the end: the address, where the keys are, and a request with a model that chats', () => {
    const text = howToTry('https://g', {
      key_vault_name: 'kv',
      secret_settings: {
        GATEWAY_CLIENT_KEY_10: 'gateway-client-key-10',
        GATEWAY_CLIENT_KEY_2: 'gateway-client-key-2',
      },
      gateway_settings: { AZURE_OPENAI_DEPLOYMENTS_0: 'text-embedding-3-small, gpt-5=gpt-5-deployment' },
    }).join('\n');
    expect(text).toContain("--vault-name 'kv' --name 'gateway-client-key-2'");
    expect(text).toContain('"model": "gpt-5"');
    expect(howToTry('https://g', {}).join('\n')).not.toMatch(/keyvault/);
  });
});
