import type { BuildOptions, BuildResult } from 'esbuild';
export function bundle(options: BuildOptions): Promise<BuildResult>;
export function bundleVirtualModule(name: string): Promise<string>;
