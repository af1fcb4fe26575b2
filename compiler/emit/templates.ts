/** Renders the precompiled templates and the user's overrides. */

import precompiled, { helpers as templateHelpers } from 'virtual:templates';
import type FullHandlebars from 'handlebars';
import type { RuntimeOptions, TemplateDelegate } from 'handlebars';
import runtime from 'handlebars/runtime.js';
import { ModelSecret } from '../model/secret.ts';
import { formatDuration } from '../settings/types.ts';
import { type Encoding, toJson } from './json.ts';

/**
 * Only the Handlebars runtime: the compiler is loaded only for a user's templates. Its type definitions lack the
 * exports.
 */
const Handlebars = runtime as unknown as typeof FullHandlebars;

/** Template functions by name: `apisix.yaml`, `apisix/plugins/cors`. */
export type TemplateOverrides = ReadonlyMap<string, TemplateDelegate>;

/** The names of all templates of this version. */
export const templateNames: readonly string[] = Object.keys(precompiled).sort();

/** The helpers that templates may use in addition to if, unless and each. */
export const TEMPLATE_HELPERS: readonly string[] = templateHelpers;

type TemplateSpecification = Parameters<typeof Handlebars.template>[0];

/** A template failed with this data. `line` counts from 1, and may be unknown. */
export class TemplateError extends Error {
  readonly template: string;
  readonly line: number | undefined;

  constructor(template: string, reason: string, line?: number) {
    super(reason);
    this.template = template;
    this.line = line;
  }
}

interface HelperOptions {
  readonly loc?: { readonly start: { readonly line: number } };
  readonly data: { readonly encoding: Encoding };
}

/** A secret must be the whole value, because a reference does not work as part of a longer text. */
function joinTexts(parts: readonly unknown[], separator: string): string {
  if (parts.some((each) => each instanceof ModelSecret))
    throw new Error('a secret cannot be part of a longer text');
  return parts.join(separator);
}

const environment = Handlebars.create();
environment.registerHelper({
  json: (value: unknown, { loc, data }: HelperOptions) => {
    try {
      return toJson(value, data.encoding);
    } catch (error) {
      throw new TemplateError('', (error as Error).message, loc?.start.line);
    }
  },
  join: (list: readonly unknown[]) => joinTexts(list, ','),
  concat: (...parts: unknown[]) => joinTexts(parts.slice(0, -1), ''),
  is: (a: unknown, b: unknown) => a === b,
  duration: (milliseconds: number) => formatDuration(milliseconds),
});

/** Wraps a template, so that its errors contain its name. */
function named(name: string, template: TemplateDelegate): TemplateDelegate {
  const wrapped: TemplateDelegate = (context, options) => {
    try {
      return template(context, options);
    } catch (error) {
      if (error instanceof TemplateError && error.template !== '') throw error;
      const line =
        error instanceof TemplateError ? error.line : (error as { lineNumber?: number }).lineNumber;
      throw new TemplateError(name, error instanceof Error ? error.message : String(error), line);
    }
  };
  // Handlebars reads data of a partial from properties of the function.
  return Object.assign(wrapped, template);
}

/** Our templates, compiled at first use: most gateways use half of them. */
const ours: Record<string, TemplateDelegate> = {};
for (const [name, specification] of Object.entries(precompiled)) {
  let made: TemplateDelegate | undefined;
  Object.defineProperty(ours, name, {
    enumerable: true,
    get: () => {
      made ??= named(name, environment.template(specification as TemplateSpecification));
      return made;
    },
  });
}

/**
 * Renders a document. Pure: the same data, encoding and overrides give the same bytes.
 * @throws TemplateError when a template uses a value that does not exist
 */
export function renderTemplate(
  name: string,
  view: object,
  encoding: Encoding,
  overrides: TemplateOverrides = new Map(),
): string {
  const theirs = [...overrides].map(([each, template]) => [each, named(each, template)] as const);
  const partials = theirs.length > 0 ? { ...ours, ...Object.fromEntries(theirs) } : ours;
  const template = partials[name];
  if (!template) throw new Error(`no template ${name}`);
  return template(view, {
    helpers: environment.helpers as RuntimeOptions['helpers'],
    partials,
    data: { encoding },
  } as RuntimeOptions);
}
