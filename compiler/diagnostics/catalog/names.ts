/** Diagnostics about names of settings, and settings that are missing or have no effect. */
import { error, info, warning } from './entry.ts';

export const names = {
  UNKNOWN_SETTING: warning((a: { nearest?: string | undefined; note?: string | undefined }, name) => ({
    message: `${name} is not a setting${a.note ? `: ${a.note}` : ''}`,
    expected: a.nearest ?? 'the right name in docs/settings.md',
    hint: a.nearest
      ? `did you mean ${a.nearest}?`
      : `remove ${name}, or look up the right name in docs/settings.md`,
  })),
  NOT_A_SETTING: info((a: { nearest?: string | undefined; note?: string | undefined }, name) => ({
    message: `${name} is not a setting of the gateway and has no effect on it${a.note === undefined ? '' : `: ${a.note}`}${a.nearest === undefined ? '' : `; did you mean ${a.nearest}?`}`,
    expected: a.nearest ?? 'the name of a setting',
    hint: `${a.nearest === undefined ? `remove ${name}` : `rename ${name} to ${a.nearest}`}, or keep it if another program reads it`,
  })),
  WRONG_CASE: warning((a: { declared: string }, name) => ({
    message: `${name} is ignored, because names of settings are upper case`,
    expected: a.declared,
    hint: `rename ${name} to ${a.declared}`,
  })),
  NON_CANONICAL_INDEX: error((a: { canonical?: string | undefined }, name) => ({
    message: 'the index is not a plain number from 0 to 9999',
    expected: a.canonical ?? 'an index from 0 to 9999',
    hint: a.canonical ? `rename ${name} to ${a.canonical}` : `give ${name} an index from 0 to 9999`,
  })),
  REPLACED_SETTING: warning((a: { replacedBy: string }, name) => ({
    message: `${name} is an old setting that is accepted only for compatibility`,
    expected: a.replacedBy,
    hint: a.replacedBy.startsWith('nothing') ? `remove ${name}` : `use ${a.replacedBy} instead`,
  })),
  REPLACED_VALUE: warning((a: { value: string; replacedBy: string }, name) => ({
    message: `${a.value} is an old value that is accepted only for compatibility`,
    expected: a.replacedBy,
    hint: `write ${name}=${a.replacedBy}`,
  })),
  CHANGED_MEANING: info((a: { changed: string }, name) => ({
    message: `differs from the accelerator: ${a.changed}`,
    expected: 'no change, if this is the effect that you want',
    hint: `see ${name} in docs/settings.md and docs/migration.md`,
  })),
  AUTH_REQUIRED_BY_DEFAULT: info(() => ({
    message:
      'clients must authenticate unless GATEWAY_REQUIRE_AUTH=false (the accelerator let everyone in by default)',
    expected: 'no change, if this is the effect that you want',
    hint: 'set GATEWAY_REQUIRE_AUTH=true to keep authentication on and to remove this message',
  })),
  SETTING_WITHOUT_EFFECT: warning((a: { needs: string }, name) => ({
    message: `${name} has no effect without ${a.needs}`,
    expected: a.needs,
    hint: `set ${a.needs}, or remove ${name}`,
  })),
  REQUIRED_SETTING: error((a: { because: string; example: string }, name) => ({
    message: `${name} is missing: ${a.because}`,
    expected: `${name}=${a.example}`,
    hint: `set ${name}=${a.example}`,
  })),
  NOT_FROM_ENV_FILE: warning((_, name) => ({
    message: `${name} has no effect in an env file`,
    expected: 'a variable in the environment of the process',
    hint: `set ${name} where the process or container is started, and remove it from the env file`,
  })),
};
