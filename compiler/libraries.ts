/**
 * The libraries that few runs need. The build puts them into a bundle of their own, dist/libraries.cjs, so that a start does
 * not read them. Import this file by `await import('./libraries.ts')` only.
 */

/** The parser of YAML. */
export const yaml = () => import('yaml');

/** The compiler of templates. */
export const handlebars = () => import('handlebars');

/** The description of the errors of a document, by ajv. */
export const documentErrors = () => import('./output/document-errors.ts');
