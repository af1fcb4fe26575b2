/** The secrets of the model. Only this file decides how documents write a secret. Pure. */
import { Secret } from '../settings/secret.ts';

/** The form of a gateway's secrets: the value of GATEWAY_SECRETS, or `redacted` for output that is only shown. */
export type SecretsMode = 'reference' | 'inline' | 'redacted';

export type SecretForm =
  /** A reference to the variable of the secret. */
  | { readonly kind: 'variable' }
  /** A reference to the file that holds the secret. */
  | { readonly kind: 'file'; readonly path: string }
  /** The value. */
  | { readonly kind: 'inline' }
  | { readonly kind: 'redacted' };

/** A secret with its form in the documents. */
export class ModelSecret extends Secret {
  readonly form: SecretForm;

  constructor(secret: Secret, mode: SecretsMode) {
    super(secret.variable, secret.reveal(), secret.file);
    this.form = formOf(secret, mode);
  }
}

function formOf({ file }: Secret, mode: SecretsMode): SecretForm {
  if (mode !== 'reference') return { kind: mode };
  return file === undefined ? { kind: 'variable' } : { kind: 'file', path: file };
}
