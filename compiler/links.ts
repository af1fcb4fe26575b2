/** Addresses of the documentation, for output that is read elsewhere, such as CI logs. */

/** The project's homepage, without the anchor of npm's `homepage`. */
export const HOMEPAGE = PACKAGE_HOMEPAGE.replace(/#.*/, '');

/** The address of a page in docs/. */
export function docsUrl(page: string, anchor?: string): string {
  if (!/^https:\/\/(?:github|gitlab)\./.test(HOMEPAGE)) return HOMEPAGE;
  return `${HOMEPAGE}/blob/HEAD/docs/${page}${anchor === undefined ? '' : `#${anchor}`}`;
}
