import type { BuildOptions, BuildResult, Metafile } from 'esbuild';
export function bundle<Options extends BuildOptions>(options: Options): Promise<BuildResult<Options>>;
export interface BundledPackage {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  /** The files with its licence and notices. */
  readonly texts: readonly string[];
}
export function bundledPackages(metafile: Pick<Metafile, 'outputs'>, base?: string): BundledPackage[];
export interface SupportedNode {
  readonly lines: readonly { readonly major: number; readonly minor: number; readonly orLater: boolean }[];
  readonly words: string;
}
export function supportedNode(range: string): SupportedNode;
export function bundleVirtualModule(name: string): Promise<string>;
export function isBuilt(): boolean;
export function buildProgram(): Promise<void>;
export function homepage(): string;
