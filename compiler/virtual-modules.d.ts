/** Made by build.mjs from templates/. */
declare module 'virtual:templates' {
  /** The helpers that templates may use beside if, unless and each. */
  export const helpers: readonly string[];
  const templates: Readonly<Record<string, unknown>>;
  export default templates;
}

/** Made by build.mjs from schemas/. */
declare module 'virtual:validators' {
  import type { ErrorObject } from 'ajv';

  interface Validator {
    (document: unknown): boolean;
    errors?: ErrorObject[] | null;
  }
  export const apisix: Validator;
  export const config: Validator;
  export const collector: Validator;
}

/** The text of a file, put into the bundle. */
declare module '*.env' {
  const text: string;
  export default text;
}

/** Put in by the build, from package.json. */
declare const PACKAGE_VERSION: string;
