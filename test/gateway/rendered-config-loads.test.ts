/** A few golden scenarios that together use every plugin. rendered-config-loads.heavy.test.ts has all others. */
import { expect, test } from 'vitest';
import { loadsAsRendered, pluginsOf } from '../support/loads-as-rendered.ts';
import { compileGolden, FEW_SCENARIOS, goodScenarios } from '../support/scenarios.ts';

test('the selected scenarios use every plugin that any scenario uses', async () => {
  const pluginsIn = async (names: readonly string[]) =>
    [...new Set((await Promise.all(names.map(compileGolden))).flatMap(pluginsOf))].sort();
  expect(await pluginsIn(FEW_SCENARIOS)).toEqual(await pluginsIn(goodScenarios()));
});

loadsAsRendered(FEW_SCENARIOS);
