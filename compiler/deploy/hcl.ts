/** The parser of HCL, Terraform's language: tree-sitter and its grammar. Both are WebAssembly in the bundle. */
import grammar from '@tree-sitter-grammars/tree-sitter-hcl/tree-sitter-hcl.wasm';
import { Language, Parser } from 'web-tree-sitter';
import runtime from 'web-tree-sitter/web-tree-sitter.wasm';

/** A parser of HCL. Its syntax trees have the positions of JavaScript's strings. */
export async function hclParser(): Promise<Parser> {
  await Parser.init({ wasmBinary: runtime });
  const parser = new Parser();
  parser.setLanguage(await Language.load(grammar));
  return parser;
}
