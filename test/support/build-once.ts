import { buildProgram, isBuilt } from '../../compiler/build.mjs';
import { requiredBy, VARIABLE } from './requirements.ts';

/** Builds the program from the sources under test, once for all tests that run it. */
export default async function setup(): Promise<void> {
  // A wrong value is an error even when no test reads it.
  requiredBy(process.env[VARIABLE]);
  if (!isBuilt()) await buildProgram();
}
