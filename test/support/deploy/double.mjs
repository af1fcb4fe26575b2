#!/usr/bin/env node
/**
 * A double of terraform, az and docker, by the name under which it is started. It records every call, with arguments and
 * environment, and keeps what it was told to make in the folder DOUBLE_FOLDER: that is its Azure.
 * `faults.json` there makes calls fail, or wait for a signal.
 */
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

const tool = basename(process.argv[1]);
const args = process.argv.slice(2);
const line = `${tool} ${args.join(' ')}`;
const stack = basename(process.cwd());
const home = process.env.DOUBLE_FOLDER ?? dirname(dirname(process.argv[1]));

const read = (name, otherwise) =>
  existsSync(join(home, name)) ? JSON.parse(readFileSync(join(home, name), 'utf8')) : otherwise;
const write = (name, value) => {
  mkdirSync(dirname(join(home, name)), { recursive: true });
  writeFileSync(join(home, name), JSON.stringify(value, null, 2));
};
const print = (value) =>
  process.stdout.write(`${typeof value === 'string' ? value : JSON.stringify(value)}\n`);
const optionOf = (option) => args[args.indexOf(option) + 1];

const call = { tool, args, stack, env: process.env, at: Date.now() };
appendFileSync(join(home, 'calls.jsonl'), `${JSON.stringify(call)}\n`);

process.on('SIGINT', () => {
  appendFileSync(join(home, 'signals.jsonl'), `${JSON.stringify({ line, stack })}\n`);
  interrupted = true;
  onInterrupt();
});
let interrupted = false;
let onInterrupt = () => process.exit(130);
const untilInterrupted = () =>
  new Promise((resolve) => {
    if (interrupted) resolve();
    onInterrupt = resolve;
    // Something has to keep the process running.
    const timer = setInterval(() => undefined, 1000);
    onInterrupt = () => {
      clearInterval(timer);
      resolve();
    };
  });

/** The first fault of this call that still has some left. */
function faultOf() {
  const faults = read('faults.json', []);
  const found = faults.find(
    (each) =>
      (each.times ?? 1) > 0 && new RegExp(each.match).test(tool === 'terraform' ? `${line} @${stack}` : line),
  );
  if (found === undefined) return undefined;
  if (found.times !== undefined || found.forever !== true) {
    found.times = (found.times ?? 1) - 1;
    write('faults.json', faults);
  }
  return found;
}

/** What each stack makes. */
const RESOURCES = {
  '00-bootstrap': [
    ['azurerm_resource_group.this', 'rg-state'],
    ['azurerm_storage_account.this', 'stgenaidev1a2b3'],
  ],
  '05-observability': [
    ['azurerm_log_analytics_workspace.this', 'log-genai-dev'],
    ['azapi_resource.workspace', 'amw-genai-dev'],
  ],
  '10-platform': [
    ['azurerm_container_registry.this', 'acrgenaidev'],
    ['azurerm_key_vault.this', 'kv-genai-dev'],
    ['azurerm_role_assignment.officer', undefined],
  ],
  '15-foundry': [['azurerm_cognitive_account.this', 'oai-genai-dev']],
  '20-workload': [
    ['azurerm_user_assigned_identity.this', 'id-gw'],
    ['azurerm_role_assignment.pull', undefined],
    ['azurerm_container_app.this', 'ca-gw-genai-dev'],
  ],
};

const endpoints = () => read('endpoints.json', {});

function outputsFor(name, values) {
  const url = endpoints();
  switch (name) {
    case '00-bootstrap':
      return {
        backend_snippet: `storage_account_name = "stgenaidev1a2b3"\ncontainer_name = "tfstate"\nkey = "${values.environment_code}/<stack>.tfstate"\n`,
        state_rg_name: 'rg-state',
        storage_account_name: 'stgenaidev1a2b3',
        state_container_name: 'tfstate',
        state_blob_key: `${values.environment_code}/00-bootstrap.tfstate`,
      };
    case '05-observability':
      return {
        log_analytics_workspace_id: '/subscriptions/x/workspaces/log',
        app_insights_id: '/subscriptions/x/components/appi',
        app_insights_connection_string: 'InstrumentationKey=a-credential-of-application-insights',
        gateway_logs_ingest_uri: 'https://dce.example/dataCollectionRules/x',
        gateway_logs_dcr_id: '/subscriptions/x/dcr',
      };
    case '10-platform':
      return {
        platform_acr_name: 'acrgenaidev',
        platform_acr_login_server: 'acrgenaidev.azurecr.io',
        key_vault_name: 'kv-genai-dev',
        key_vault_uri: url.vault ?? 'https://kv-genai-dev.vault.azure.net/',
      };
    case '15-foundry':
      return {
        azure_openai_endpoints: (values.azure_openai_instances ?? []).map((each) => ({
          name: each.name_suffix,
        })),
      };
    default:
      return {
        gateway_url: url.gateway ?? 'https://gateway.example',
        gateway_app_name: 'ca-gw-genai-dev',
        resource_group_name: 'rg-workload',
        key_vault_name: 'kv-genai-dev',
        secrets_revision: values.secrets_revision,
        gateway_settings: gatewaySettings(values),
        secret_settings: Object.fromEntries([
          ...(values.secret_settings ?? []).map((each) => [each, each.toLowerCase().replaceAll('_', '-')]),
          ...SIMULATORS.filter(() => values.gateway_e2e_test_mode).map((_, index) => [
            `AZURE_OPENAI_KEY_${index}`,
            'simulator-api-key',
          ]),
        ]),
        simulator_urls: values.gateway_e2e_test_mode
          ? Object.fromEntries(SIMULATORS.map((name) => [name, `https://${name}.example`]))
          : null,
        simulator_secret_name: values.gateway_e2e_test_mode ? 'simulator-api-key' : null,
        simulator_image: values.simulator_image ?? '',
      };
  }
}

const SIMULATORS = ['ptu-backend-1', 'payg-backend-1', 'payg-backend-2'];

function simulatorSettings(values) {
  if (!values.gateway_e2e_test_mode) return {};
  return Object.fromEntries([
    ['GATEWAY_E2E_TEST_MODE', 'true'],
    ...SIMULATORS.flatMap((name, index) => [
      [`AZURE_OPENAI_NAME_${index}`, name],
      [`AZURE_OPENAI_ENDPOINT_${index}`, `https://${name}.example`],
    ]),
  ]);
}

function gatewaySettings(values) {
  const foundry = read('states/15-foundry.json', undefined)?.values ?? {};
  const backends = values.use_provisioned_azure_openai ? (foundry.azure_openai_instances ?? []) : [];
  return {
    ENVIRONMENT: values.environment_code,
    GATEWAY_LOG_FORMAT: 'json',
    ...Object.fromEntries(
      backends.flatMap((each, index) => [
        [`AZURE_OPENAI_ENDPOINT_${index}`, `https://oai-${each.name_suffix}.openai.azure.com`],
        [`AZURE_OPENAI_NAME_${index}`, each.name_suffix],
        [`AZURE_OPENAI_AUTH_MODE_${index}`, 'entra'],
        ...(each.deployments?.length > 0
          ? [[`AZURE_OPENAI_DEPLOYMENTS_${index}`, each.deployments.map(({ name }) => name).join(',')]]
          : []),
      ]),
    ),
    ...values.app_settings,
    ...simulatorSettings(values),
    ...read('more-settings.json', {}),
    AZURE_CLIENT_ID: '0f8fad5b-d9cb-469f-a165-70867728950e',
  };
}

const diagnostic = (summary, detail, address) =>
  print({
    '@level': 'error',
    type: 'diagnostic',
    diagnostic: { severity: 'error', summary, detail, ...(address ? { address } : {}) },
  });

const stateFile = () => (stack === '00-bootstrap' ? undefined : `states/${stack}.json`);
function state() {
  if (stack !== '00-bootstrap') return read(stateFile(), { values: undefined, done: [] });
  return existsSync('terraform.tfstate')
    ? JSON.parse(readFileSync('terraform.tfstate', 'utf8'))
    : { values: undefined, done: [] };
}
function keep(value) {
  if (stack === '00-bootstrap') {
    writeFileSync('terraform.tfstate', JSON.stringify(value));
    write('account.json', value.done.length > 1);
  } else write(stateFile(), value);
}

function failAs(fault) {
  if (fault.summary !== undefined) diagnostic(fault.summary, fault.detail ?? '', fault.address);
  if (fault.stderr !== undefined) process.stderr.write(`${fault.stderr}\n`);
  process.exit(fault.code ?? 1);
}

async function terraform() {
  const [command] = args;
  if (command === 'version') return print({ terraform_version: process.env.DOUBLE_TERRAFORM ?? '1.11.4' });
  const fault = faultOf();
  if (fault?.hang) {
    if (command !== 'apply') {
      await untilInterrupted();
      process.exit(1);
    }
  } else if (fault !== undefined && fault.after === undefined) return failAs(fault);
  if (command === 'init') {
    mkdirSync('.terraform', { recursive: true });
    return;
  }
  const values = existsSync('deploy.auto.tfvars.json')
    ? JSON.parse(readFileSync('deploy.auto.tfvars.json', 'utf8'))
    : {};
  const present = state();
  if (command === 'plan') {
    const destroy = args.includes('-destroy');
    const out = args.find((each) => each.startsWith('-out=')).slice('-out='.length);
    const isSame = JSON.stringify(present.values) === JSON.stringify(values);
    const nothing = destroy
      ? present.done.length === 0
      : isSame && present.done.length === RESOURCES[stack].length;
    if (nothing) return;
    writeFileSync(out, JSON.stringify({ destroy, values, present }));
    process.exitCode = 2;
    return;
  }
  if (command === 'show') return print(planJson(JSON.parse(readFileSync(args.at(-1), 'utf8'))));
  if (command === 'output')
    return print(
      Object.fromEntries(
        Object.entries(present.values === undefined ? {} : outputsFor(stack, present.values)).map(
          ([name, value]) => [name, { value }],
        ),
      ),
    );
  if (command !== 'apply') throw new Error(`terraform ${command} is not doubled`);
  await apply(JSON.parse(readFileSync(args.at(-1), 'utf8')), fault);
}

/** The resources that a plan touches, with what happens to each. */
function touched({ destroy, values, present }) {
  const all = RESOURCES[stack];
  if (destroy)
    return all.filter(([address]) => present.done.includes(address)).map((each) => [...each, 'delete']);
  const isSame = JSON.stringify(present.values) === JSON.stringify(values);
  return all.flatMap(([address, name]) => {
    if (!present.done.includes(address)) return [[address, name, 'create']];
    // A change of values changes the last resource: in the workload, the Container App.
    return !isSame && address === all.at(-1)[0]
      ? [[address, name, read('replace.json', false) ? 'replace' : 'update']]
      : [];
  });
}

function planJson(plan) {
  const outputs = plan.destroy ? {} : outputsFor(stack, plan.values);
  return {
    format_version: '1.2',
    resource_changes: touched(plan).map(([address, name, action]) => ({
      address: `module.x.${address}`,
      mode: 'managed',
      type: address.split('.')[0],
      name: address.split('.')[1],
      change: {
        actions: action === 'replace' ? ['delete', 'create'] : [action],
        before: action === 'create' ? null : { name, template: 'before' },
        after: action === 'delete' ? null : { name, template: 'after' },
        after_unknown: {},
      },
    })),
    output_changes: Object.fromEntries(
      Object.entries(outputs).map(([name, after]) => [
        name,
        name === 'gateway_settings' && plan.present.done.length === 0
          ? {
              actions: ['create'],
              after: Object.fromEntries(Object.entries(after).filter(([each]) => each !== 'AZURE_CLIENT_ID')),
              after_unknown: { AZURE_CLIENT_ID: true },
            }
          : { actions: ['no-op'], after, after_unknown: false },
      ]),
    ),
  };
}

async function apply(plan, fault) {
  let done = [...plan.present.done];
  const event = (type, address, action, more = {}) =>
    print({ '@level': 'info', type, hook: { resource: { addr: `module.x.${address}` }, action, ...more } });
  let count = 0;
  for (const [address, , action] of touched(plan)) {
    event('apply_start', address, action);
    if (fault !== undefined && count === (fault.after ?? 0)) {
      if (fault.hang) {
        await untilInterrupted();
        // Terraform ends what it is doing, and keeps it.
        done =
          action === 'delete' ? done.filter((each) => each !== address) : [...new Set([...done, address])];
        event('apply_complete', address, action, { elapsed_seconds: 1 });
        keep({ values: undefined, done });
        diagnostic('execution halted', 'Error: interrupted');
        process.exit(1);
      }
      event('apply_errored', address, action, { elapsed_seconds: 1 });
      keep({ values: undefined, done });
      return failAs({ ...fault, address: `module.x.${address}` });
    }
    event('apply_progress', address, action, { elapsed_seconds: 30 });
    done = action === 'delete' ? done.filter((each) => each !== address) : [...new Set([...done, address])];
    event('apply_complete', address, action, { elapsed_seconds: 31 });
    count++;
    if (address.startsWith('azurerm_container_app') && action !== 'delete') newRevision(plan.values);
  }
  keep({ values: plan.destroy ? undefined : plan.values, done });
}

function newRevision(values) {
  const revisions = read('revisions.json', []);
  const number = revisions.length + 1;
  const state = read('next-revision.json', {});
  for (const each of revisions) each.properties.active = false;
  revisions.push({
    name: `ca-gw-genai-dev--${String(number).padStart(7, '0')}`,
    properties: {
      createdTime: new Date(Date.UTC(2026, 10, 1, 0, number)).toISOString(),
      active: true,
      provisioningState: 'Provisioned',
      healthState: 'Healthy',
      runningState: 'Running',
      ...state,
      template: {
        initContainers: [
          {
            name: 'render',
            image: values.gateway_image,
            env: [
              ...Object.entries(gatewaySettings(values)).map(([name, value]) => ({ name, value })),
              ...(values.secret_settings ?? []).map((name) => ({
                name,
                secretRef: name.toLowerCase().replaceAll('_', '-'),
              })),
              { name: 'DEPLOYED_SECRETS', value: values.secrets_revision },
            ],
          },
        ],
        containers: [
          {
            name: 'gateway',
            image: values.gateway_image,
            env: [{ name: 'GATEWAY_SHARED_DIR', value: '/shared-configs/gateway' }],
          },
        ],
      },
    },
  });
  write('revisions.json', revisions);
}

async function az() {
  const [first, second, third] = args;
  if (first === 'version') return print({ 'azure-cli': process.env.DOUBLE_AZ ?? '2.70.0' });
  const fault = faultOf();
  if (fault?.hang) {
    await untilInterrupted();
    process.exit(1);
  } else if (fault !== undefined) return failAs(fault);
  if (first === 'account') return account();
  if (first === 'storage' && second === 'account') {
    const name = /name=='(\w+)'/.exec(line)?.[1];
    return print(read('account.json', false) && name === 'stgenaidev1a2b3' ? ['/subscriptions/x/st'] : []);
  }
  if (first === 'storage' && second === 'blob') return blob(third);
  if (first === 'acr' && second === 'login') return;
  if (first === 'acr' && second === 'build') {
    print('Step 1/12 : FROM node');
    return push(optionOf('--image'));
  }
  if (first === 'acr' && second === 'repository') {
    const digest = read('images.json', {})[optionOf('--image')];
    if (digest !== undefined) return print(digest);
    return failAs({ stderr: 'ERROR: 404: manifest unknown: MANIFEST_UNKNOWN', code: 1 });
  }
  if (first === 'containerapp') return containerApp(second, third);
  throw new Error(`${line} is not doubled`);
}

function account() {
  const login = read('login.json', null);
  if (login === null) return failAs({ stderr: "ERROR: Please run 'az login' to setup account.", code: 1 });
  const wanted = args.includes('--subscription') ? optionOf('--subscription') : login.id;
  if (wanted !== login.id)
    return failAs({
      stderr: `ERROR: Subscription '${wanted}' not found. Check the spelling and casing and try again.`,
    });
  print(login);
}

function blob(action) {
  const folder = join(home, 'blobs');
  mkdirSync(folder, { recursive: true });
  if (action === 'list') return print(readdirSync(folder).map((name) => name.replaceAll('+', '/')));
  const file = join(folder, optionOf('--name').replaceAll('/', '+'));
  if (action === 'upload') return copyFileSync(optionOf('--file'), file);
  if (existsSync(file)) return copyFileSync(file, optionOf('--file'));
  failAs({ stderr: 'ERROR: The specified blob does not exist. ErrorCode:BlobNotFound' });
}

function push(image) {
  const images = read('images.json', {});
  images[image] = `sha256:${String(Object.keys(images).length + 1)
    .repeat(64)
    .slice(0, 64)}`;
  write('images.json', images);
}

function containerApp(second, third) {
  const revisions = read('revisions.json', []);
  const latest = revisions.at(-1);
  if (second === 'show') {
    if (latest === undefined)
      return failAs({ stderr: "ERROR: The containerapp 'x' was not found (ResourceNotFound)" });
    const ready = [...revisions]
      .reverse()
      .find(
        ({ properties }) =>
          properties.provisioningState === 'Provisioned' && properties.healthState === 'Healthy',
      );
    return print({
      properties: {
        latestRevisionName: latest.name,
        latestReadyRevisionName: ready?.name ?? '',
        template: latest.properties.template,
      },
    });
  }
  if (second === 'logs') return print('error: AZURE_OPENAI_ENDPOINT_0 is not a URL');
  if (third === 'list') return print(revisions);
  if (third === 'copy') {
    const from = revisions.find(({ name }) => name === optionOf('--from-revision'));
    const copy = structuredClone(from);
    const number = revisions.length + 1;
    copy.name = `ca-gw-genai-dev--${String(number).padStart(7, '0')}`;
    copy.properties.createdTime = new Date(Date.UTC(2026, 10, 1, 0, number)).toISOString();
    copy.properties.active = true;
    for (const each of revisions) each.properties.active = false;
    return write('revisions.json', [...revisions, copy]);
  }
  throw new Error(`${line} is not doubled`);
}

async function docker() {
  const fault = faultOf();
  if (fault?.hang) {
    await untilInterrupted();
    process.exit(1);
  } else if (fault !== undefined) return failAs(fault);
  if (args[0] === 'version') return print('27.0.1');
  if (args[0] === 'build') return;
  if (args[0] === 'push') return push(args[1].replace(/^[^/]+\//, ''));
  throw new Error(`${line} is not doubled`);
}

rmSync(join(home, 'never'), { force: true });
await { terraform, az, docker }[tool]();
