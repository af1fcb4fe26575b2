/** Checks and compiles a user's own templates. Pure; loads the Handlebars compiler. */
import type { TemplateDelegate } from 'handlebars';
import { type Diagnostic, diagnostic } from '../diagnostics/diagnostic.ts';
import { nearestOf } from '../diagnostics/nearest.ts';
import { TEMPLATE_HELPERS, type TemplateOverrides, templateNames } from './templates.ts';

/** The text of each file by template name (path in templates/ without `.hbs`); `path` is for diagnostics. */
export type TemplateSources = ReadonlyMap<string, { readonly path: string; readonly text: string }>;

/** Checks and compiles templates. With an error among the diagnostics, the overrides must not be used. */
export async function compileOverrides(
  sources: TemplateSources,
): Promise<{ overrides: TemplateOverrides; diagnostics: Diagnostic[] }> {
  const { handlebars } = await import('../libraries.ts');
  const { default: Handlebars } = await handlebars();
  const overrides = new Map<string, TemplateDelegate>();
  const diagnostics: Diagnostic[] = [];
  for (const [name, { path, text }] of sources) {
    const at = (line?: number) => ({
      setting: name,
      source: { kind: 'file' as const, path, ...(line === undefined ? {} : { line }) },
    });
    if (!templateNames.includes(name)) {
      diagnostics.push(diagnostic('TEMPLATE_UNKNOWN', at(), { nearest: nearestOf([name], templateNames) }));
      continue;
    }
    try {
      const ast = Handlebars.parse(text);
      const raw = rawValues(ast, text);
      for (const { expression, line } of raw)
        diagnostics.push(diagnostic('TEMPLATE_RAW_VALUE', at(line), { expression }));
      // Compilation is lazy; precompiling reports unknown helpers now.
      Handlebars.precompile(ast, COMPILE_OPTIONS);
      overrides.set(name, Handlebars.compile(ast, COMPILE_OPTIONS));
    } catch (error) {
      const { message, lineNumber } = error as Error & { lineNumber?: number };
      const line = lineNumber ?? Number(/line (\d+)/.exec(message)?.[1] ?? Number.NaN);
      const reason = message
        .split('\n')
        .filter((each) => !/^[-\s]*\^|^\.\.\.|^Expecting /.test(each))
        .join(' ');
      diagnostics.push(diagnostic('TEMPLATE_BROKEN', at(Number.isNaN(line) ? undefined : line), { reason }));
    }
  }
  return { overrides, diagnostics };
}

const COMPILE_OPTIONS: CompileOptions = {
  noEscape: true,
  knownHelpers: Object.fromEntries(TEMPLATE_HELPERS.map((name) => [name, true])),
  knownHelpersOnly: true,
};

const BLOCK_HELPERS = new Set(['if', 'unless', 'each', 'with']);

/**
 * Finds expressions that write a value without the json helper, which could break the document or change its meaning.
 * Block helpers and inline partials write their result unencoded too.
 */
export function rawValues(program: hbs.AST.Program, text: string): { expression: string; line: number }[] {
  const found: { expression: string; line: number }[] = [];
  const lines = text.split('\n');
  const report = ({ loc }: hbs.AST.Node) => {
    const end = loc.start.line === loc.end.line ? loc.end.column : undefined;
    found.push({
      expression: lines[loc.start.line - 1]?.slice(loc.start.column, end) ?? '',
      line: loc.start.line,
    });
  };
  const nameOf = ({ path }: { path: hbs.AST.Expression }) => (path as hbs.AST.PathExpression).original;
  const visit = (each: hbs.AST.Program | undefined): void => {
    for (const statement of each?.body ?? []) {
      switch (statement.type) {
        case 'ContentStatement':
        case 'CommentStatement':
        case 'PartialStatement':
          break;
        case 'MustacheStatement':
          if (nameOf(statement as hbs.AST.MustacheStatement) !== 'json') report(statement);
          break;
        case 'BlockStatement': {
          const block = statement as hbs.AST.BlockStatement;
          if (!BLOCK_HELPERS.has(nameOf(block))) report(statement);
          visit(block.program);
          visit(block.inverse);
          break;
        }
        default:
          report(statement);
      }
    }
  };
  visit(program);
  return found;
}
