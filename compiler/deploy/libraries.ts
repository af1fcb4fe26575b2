/**
 * The large libraries of `deploy` and `import`. The build puts them into a bundle of their own, dist/deploy.cjs, so that
 * no other command reads them. Import this file by `await import('./libraries.ts')` only.
 */

/** The Azure SDK. */
export const azure = () => import('./azure-sdk.ts');

/** The parser of HCL. */
export const hcl = () => import('./hcl.ts');
