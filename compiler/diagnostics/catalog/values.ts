/** Diagnostics about one value. */
import { error, info, warning } from './entry.ts';

export const values = {
  INVALID_VALUE: error(
    (
      a: {
        expected: string;
        issue?: string | undefined;
        example: string;
        suggestion?: string | undefined;
        fix?: string | undefined;
      },
      name,
    ) => ({
      message: a.issue ? `the value is not usable: ${a.issue}` : 'the value is not usable',
      expected: a.expected,
      hint: advice(name, a),
    }),
  ),
  CONTROL_CHARACTER: error((_, name) => ({
    message: 'the value contains a line break or a NUL character',
    expected: 'one line of text',
    hint: `set ${name} again without the line break; a secret file may end with one`,
  })),
  WRAPPED_IN_QUOTES: error((_, name) => ({
    message: 'the value is wrapped in quotes',
    expected: 'the bare value',
    hint: `remove the quotes around the value of ${name}: docker --env-file and lists in Compose files keep them as part of the value`,
  })),
  LOOKS_LIKE_KEY: error((a: { expected: string; belongs?: string | undefined }, name) => ({
    message:
      'the value looks like a key, but this setting is not secret: its value appears in files, logs and metrics',
    expected: a.expected,
    hint: `${a.belongs === undefined ? `set ${name} to another value` : `set ${a.belongs} to the key, and ${name} to its own value`}; replace the key if others may have read it`,
  })),
  SECRET_IS_URL: error((a: { expected: string; belongs?: string | undefined }, name) => ({
    message: 'the secret is a URL or a host name',
    expected: a.expected,
    hint: `set ${name} to the secret itself${a.belongs === undefined ? '' : `; the URL belongs in ${a.belongs}`}`,
  })),
  KEY_WITH_SPACE: warning((a: { kind: 'scheme' | 'space' }, name) => ({
    message:
      a.kind === 'scheme'
        ? 'the key begins with a part of a header, such as Bearer, which is not part of a key'
        : 'the key contains white space, which clients and proxies may cut off or reject',
    expected: 'a key without white space',
    hint:
      a.kind === 'scheme'
        ? `set ${name} to the key alone`
        : name.startsWith('AZURE_OPENAI_')
          ? `copy the key of the resource into ${name} again`
          : `give ${name} a random key, for example from: openssl rand -hex 24`,
  })),
  BLANK_SECRET: error((_, name) => ({
    message: 'the secret is set but empty',
    expected: 'a value',
    hint: `give ${name} a value, or unset it`,
  })),
  SECRET_SURROUNDED_BY_SPACE: error((_, name) => ({
    message: 'the secret begins or ends with white space, which APISIX would read as part of it',
    expected: 'a value that does not begin or end with white space',
    hint: `set ${name} again without the white space (often the last line break of the file that it was copied from)`,
  })),
  REFERENCE_IN_VALUE: error((_, name) => ({
    message: 'the value starts with $env:// or $secret://',
    expected: 'the value itself',
    hint: `set ${name} to the value itself; genai-gateway writes the references`,
  })),
  TEMPLATE_IN_VALUE: error((_, name) => ({
    message: 'the value contains ${{, which APISIX replaces when it reads its configuration',
    expected: 'a value without ${{',
    hint: `change ${name} so that it does not contain \${{`,
  })),
  PLACEHOLDER: warning((a: { kind: 'placeholder' | 'variable' | 'example' }, name) => ({
    message: {
      placeholder: 'the value is a placeholder',
      variable: 'the value is a variable that was not expanded',
      example: 'the value comes from an example',
    }[a.kind],
    expected: 'your own value; render, watch and up reject placeholders',
    hint: placeholderAdvice(name),
  })),
  EXAMPLE_SETTINGS: info((_, name) => ({
    message:
      'all endpoints and keys come from an example: the resources do not exist, and the keys are public',
    expected: 'your own endpoints and keys; up and the image reject an example that is not filled in',
    hint: placeholderAdvice(name),
  })),
  ACCELERATOR_EXAMPLE_KEY: warning((_, name) => ({
    message: "the key comes from the accelerator's public examples",
    expected: 'a random key that nobody else knows',
    hint: `give ${name} a random key, for example from: openssl rand -hex 24`,
  })),
  ACCELERATOR_PENDING_KEY: warning((a: { index: number }, name) => ({
    message: `the value is the accelerator's placeholder for a missing key: backend ${a.index} will return 401 for every request`,
    expected: 'the key of the resource',
    hint: `set ${name} to the key of the resource, or set AZURE_OPENAI_AUTH_MODE_${a.index}=entra`,
  })),
};

/** The advice: a suggested value, else a general fix, else an example. */
function advice(
  name: string,
  a: {
    readonly example: string;
    readonly suggestion?: string | undefined;
    readonly fix?: string | undefined;
  },
): string {
  if (a.suggestion !== undefined)
    return `write ${name}=${a.suggestion}${a.fix === undefined || a.fix.startsWith('write one of') ? '' : `; ${a.fix}`}`;
  return a.fix ?? `write for example ${name}=${a.example}`;
}

/** Where the user finds a real value instead of the placeholder. */
function placeholderAdvice(name: string): string {
  if (name.includes('_ENDPOINT_'))
    return `set ${name} to the endpoint of your resource, as the Azure portal shows it`;
  if (/^GATEWAY_CLIENT_KEY/.test(name))
    return `give ${name} a random key, for example from: openssl rand -hex 24`;
  return /^AZURE_OPENAI_KEY/.test(name)
    ? `set ${name} to the key of your resource, or use a managed identity with AZURE_OPENAI_AUTH_MODE_N=entra`
    : `set ${name} to the secret itself`;
}
