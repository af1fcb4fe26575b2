/** Renders the precompiled templates, and those a user put in their place. */
import type { RuntimeOptions, TemplateDelegate } from 'handlebars';
import type FullHandlebars from 'handlebars';
import runtime from 'handlebars/runtime.js';
import precompiled, { helpers as templateHelpers } from 'virtual:templates';
import { formatDuration } from '../settings/types.ts';
import { type Encoding, toJson } from './json.ts';

/** The runtime alone: the compiler is loaded only where a user brings templates. Its own types do not say what it exports. */
const Handlebars = runtime as unknown as typeof FullHandlebars;

/** Template functions by name: `apisix.yaml`, `apisix/plugins/cors`. */
export type TemplateOverrides = ReadonlyMap<string, TemplateDelegate>;

/** The names of all templates of this version. */
export const templateNames: readonly string[] = Object.keys(precompiled).sort();

/** The helpers that templates may use beside if, unless and each. */
export const TEMPLATE_HELPERS: readonly string[] = templateHelpers;

type TemplateSpecification = Parameters<typeof Handlebars.template>[0];

/** A template failed on this view. `line` counts from 1 and may be unknown. */
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
}

/**
 * A document as text. Pure: the same view, encoding and overrides give the same bytes.
 * @throws TemplateError where a template names a value that is not there.
 */
export function renderTemplate(name: string, view: object, encoding: Encoding, overrides?: TemplateOverrides): string {
  const environment = Handlebars.create();
  environment.registerHelper({
    json: (value: unknown, { loc }: HelperOptions) => {
      try {
        return toJson(value, encoding);
      } catch (error) {
        throw new TemplateError('', (error as Error).message, loc?.start.line);
      }
    },
    join: (list: readonly string[]) => list.join(','),
    concat: (...parts: unknown[]) => parts.slice(0, -1).join(''),
    is: (a: unknown, b: unknown) => a === b,
    duration: (milliseconds: number) => formatDuration(milliseconds),
  });
  const templates = new Map<string, TemplateDelegate>();
  for (const each of templateNames) {
    const template = overrides?.get(each) ?? environment.template(precompiled[each] as TemplateSpecification);
    const named = Object.assign((context: unknown, options?: RuntimeOptions) => {
      try {
        return template(context, options);
      } catch (error) {
        if (error instanceof TemplateError && error.template !== '') throw error;
        const line = error instanceof TemplateError ? error.line : (error as { lineNumber?: number }).lineNumber;
        throw new TemplateError(each, error instanceof Error ? error.message : String(error), line);
      }
    }, template);
    templates.set(each, named);
    environment.registerPartial(each, named);
  }
  const template = templates.get(name);
  if (!template) throw new Error(`no template ${name}`);
  // Overrides were compiled elsewhere and know no helpers or partials of their own.
  return template(view, { helpers: environment.helpers, partials: environment.partials } as RuntimeOptions);
}
