/** Diagnostics about the test mode. */
import { error, list, warning } from './entry.ts';

export const testMode = {
  TEST_MODE: warning((_, name) => ({
    message:
      'the test mode is on: any client can move the requests of others to other backends, and all share the budgets of its pools',
    expected: `${name} unset in production`,
    hint: `remove ${name} unless you run the scenarios of the toolkit`,
  })),
  TEST_MODE_BACKENDS: error((a: { missing: readonly string[] }, name) => ({
    message: `the pools of the test mode need backends with these names, which do not exist: ${list(a.missing)}`,
    expected: 'backends named ptu-backend-1, payg-backend-1 and payg-backend-2',
    hint: `set AZURE_OPENAI_NAME_N=${a.missing[0]} at the backend that plays this part, or remove ${name}`,
  })),
};
