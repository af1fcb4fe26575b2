/** What a deployment prints at its end: the address, where the keys are, one request to try. Pure. */
import { TEST_BACKENDS } from '../settings/test-mode.ts';
import { recordOf } from './json.ts';
import type { Values } from './variables.ts';

/** A name for the request where the settings list no deployments. */
const ANY_MODEL = 'gpt-5-mini';

/** @param outputs the outputs of 20-workload. Keys are in the vault, and never printed. */
export function howToTry(url: string, outputs: Values): readonly string[] {
  const vault = String(outputs.key_vault_name ?? '');
  const secrets = recordOf(outputs.secret_settings);
  const settings = recordOf(outputs.gateway_settings);
  const [, key] =
    Object.entries(secrets)
      .filter(([name]) => /^GATEWAY_CLIENT_KEY_\d+$/.test(name))
      .sort(([a], [b]) => a.localeCompare(b, 'en', { numeric: true }))[0] ?? [];
  const models = Object.entries(settings)
    .filter(([name]) => /^AZURE_OPENAI_DEPLOYMENTS_\d+$/.test(name))
    .flatMap(([, value]) => String(value).split(','))
    .map((each) => each.split('=')[0]?.trim() ?? '')
    .filter((name) => name !== '');
  const model =
    models.find((name) => !/embed|whisper|tts|dall|image|sora/i.test(name)) ?? models[0] ?? ANY_MODEL;
  const request = [
    `curl --fail -i '${url}/openai/v1/chat/completions' --header 'Content-Type: application/json' \\`,
    ...(key === undefined ? [] : ['  --header "@$file" \\']),
    `  --data '{"model": "${model}", "messages": [{"role": "user", "content": "Hello"}]}'`,
  ];
  if (key === undefined) return [`The gateway answers at ${url}`, '', 'Try it:', '', ...request];
  return [
    `The gateway answers at ${url}`,
    `The keys of its clients are in the Key Vault ${vault}, for example as ${String(key)}.`,
    '',
    'Try it. The key goes through a file, not through an argument:',
    '',
    'file=$(mktemp)',
    `printf 'api-key: %s' "$(az keyvault secret show --vault-name '${vault}' --name '${String(key)}' --query value --output tsv)" > "$file"`,
    ...request,
    'rm "$file"',
  ];
}

/**
 * How to run the toolkit's scenarios; nothing without simulators.
 * @param files those with the settings and keys of the clients
 */
export function howToRunScenarios(url: string, outputs: Values, files: readonly string[]): readonly string[] {
  const simulators = recordOf(outputs.simulator_urls);
  if (Object.keys(simulators).length === 0) return [];
  const [vault, secret] = [String(outputs.key_vault_name), String(outputs.simulator_secret_name)];
  return [
    '',
    "Run the toolkit's scenarios, about 70 minutes. The key of the simulators goes through a file:",
    '',
    'file=$(mktemp)',
    `key=$(az keyvault secret show --vault-name '${vault}' --name '${secret}' --query value --output tsv)`,
    'cat > "$file" <<END',
    'GATEWAY_E2E_TEST_MODE=true',
    ...TEST_BACKENDS.flatMap((name, index) => [
      `AZURE_OPENAI_NAME_${index}=${name}`,
      `AZURE_OPENAI_ENDPOINT_${index}=${String(simulators[name])}`,
      `AZURE_OPENAI_KEY_${index}=$key`,
    ]),
    'END',
    `npx genai-gateway e2e${files.map((path) => ` -e '${path}'`).join('')} -e "$file" --gateway '${url}'`,
    'rm "$file"',
  ];
}
