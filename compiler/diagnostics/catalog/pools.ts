/** Diagnostics about pools. */
import { error, list, warning } from './entry.ts';

export const pools = {
  POOL_WITHOUT_NAME: error((a: { present: string }, name) => ({
    message: `${a.present} is set but ${name} is not`,
    expected: name,
    hint: `set ${name}, or remove ${a.present}`,
  })),
  POOL_NAME_RESERVED: error((a: { name: string }, name) => ({
    message: `${a.name} is the name of the pool of the plain paths`,
    expected: 'another name',
    hint: `give ${name} another name`,
  })),
  POOL_PATH_RESERVED: error((a: { path: string; segment: string }, name) => ({
    message: `the gateway itself serves paths that begin with /${a.segment}, so a pool cannot have ${a.path}`,
    expected: 'a prefix whose first segment is no path of the gateway, such as /search',
    hint: `write another prefix in ${name}`,
  })),
  POOL_PATHS_OVERLAP: error((a: { path: string; other: string; otherPath: string }, name) => ({
    message:
      a.path === a.otherPath
        ? `${a.other} gives another pool the same path ${a.path}`
        : `${a.path} and ${a.otherPath}, which ${a.other} gives another pool, begin with the same path`,
    expected: 'a prefix that is not the beginning of another one',
    hint: `write another prefix in ${name}`,
  })),
  UNKNOWN_BACKEND: error(
    (a: { backend: string; nearest?: string | undefined; known: readonly string[] }, name) => ({
      message: `there is no backend named ${a.backend}`,
      expected: `names of backends (AZURE_OPENAI_NAME_N, or backend-N): ${few(a.known)}`,
      hint:
        a.nearest === undefined
          ? `correct ${name}, or add the backend`
          : `write ${a.nearest} in ${name}, or add the backend`,
    }),
  ),
  POOL_DRAINED: error((a: { pool: string }, name) => ({
    message: `every backend of the pool ${a.pool} has weight 0`,
    expected: 'at least one weight above 0',
    hint: `give one backend a weight, for example ${name}=NAME:5:1`,
  })),
  UNKNOWN_CLIENT: error(
    (a: { client: string; nearest?: string | undefined; known: readonly string[] }, name) => ({
      message: `there is no client named ${a.client}`,
      expected:
        a.known.length === 0
          ? 'names of clients (GATEWAY_CLIENT_NAME_N)'
          : `names of clients (GATEWAY_CLIENT_NAME_N): ${few(a.known)}`,
      hint:
        a.nearest === undefined
          ? `correct ${name}, or add the client`
          : `write ${a.nearest} in ${name}, or add the client`,
    }),
  ),
  POOL_TOKENS_WITHOUT_OIDC: error((a: { item: string }, name) => ({
    message: `${a.item} names holders of tokens, but the gateway accepts no tokens`,
    expected: 'ENABLE_OIDC=true, or names of clients only',
    hint: `set ENABLE_OIDC=true, or remove ${a.item} from ${name}`,
  })),
  PREFERRED_WITHOUT_SECRET: warning((a: { setting: string }) => ({
    message: `any client can set the order of backends that ${a.setting}=preferred follows`,
    expected: 'a shared secret for /helpers/set-preferred-backends',
    hint: 'set CONFIG_API_SHARED_SECRET, for example from: openssl rand -hex 24',
  })),
};

const few = (names: readonly string[]) => `${list(names.slice(0, 20))}${names.length > 20 ? ', …' : ''}`;
