/** How texts and secrets are written for APISIX and for the collector. Pure. */
import type { ModelSecret } from '../model/secret.ts';
import type { Encoding } from './json.ts';

/** The id of the item of `secrets` in apisix.yaml that lists the secret files. */
export const SECRETS_ITEM = 'file/settings';

/** The encoding of the documents of one process. */
export interface ProcessEncoding extends Encoding {
  /** Matches a string that is a reference to a variable. */
  readonly variable: RegExp;
}

/** APISIX resolves references at run time: to a variable, or to a file that the gateway follows. */
export const APISIX: ProcessEncoding = {
  text: (value) => value,
  secret: (secret) => {
    switch (secret.form.kind) {
      case 'variable':
        return `$env://${secret.variable}`;
      case 'file':
        return `$secret://${SECRETS_ITEM}/${secret.variable}`;
      default:
        return inlineText(secret);
    }
  },
  variable: /"\$env:\/\/([A-Z0-9_]+)"/g,
};

/** The collector expands `$NAME` and `${…}` anywhere in its file when it starts; `$$` is a dollar sign. */
export const COLLECTOR: ProcessEncoding = {
  text: (value) => value.replaceAll('$', '$$$$'),
  secret: (secret) => {
    switch (secret.form.kind) {
      case 'variable':
        return `\${env:${secret.variable}}`;
      case 'file':
        return `\${file:${secret.form.path}}`;
      default:
        return COLLECTOR.text(inlineText(secret));
    }
  },
  variable: /"\$\{env:([A-Z0-9_]+)\}"/g,
};

const inlineText = (secret: ModelSecret): string =>
  secret.form.kind === 'inline' ? secret.reveal() : '[redacted]';
