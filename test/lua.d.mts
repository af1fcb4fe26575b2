export interface LuaRun {
  readonly folder: string;
  /** The names of its test files. */
  readonly files: readonly string[];
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export function luaRuns(): LuaRun[];
