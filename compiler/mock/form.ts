import { invalidRequest } from './answers.ts';
import { type Call, Refused } from './call.ts';
import { type Part, parseMultipart } from './multipart.ts';

/**
 * The form's fields and files.
 * @throws an error answer if the body is not a form, or lacks one of `names`
 */
export function form({ body, contentType }: Call, ...names: readonly string[]): ReadonlyMap<string, Part> {
  const parts = parseMultipart(body, contentType);
  if (!parts) throw new Refused(invalidRequest('Could not parse multipart form.', null, null));
  const fields = new Map(parts.map((part) => [part.name.replace(/\[\]$/, ''), part]));
  const missing = names.find((name) => !fields.has(name));
  if (missing !== undefined) {
    throw new Refused(
      invalidRequest(`Missing required parameter: '${missing}'.`, missing, 'missing_required_parameter'),
    );
  }
  return fields;
}

/** The text of a field. */
export const field = (fields: ReadonlyMap<string, Part>, name: string): string | undefined =>
  fields.get(name)?.content.toString('utf8');
