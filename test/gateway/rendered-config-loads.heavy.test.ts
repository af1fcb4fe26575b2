/** Every golden scenario that rendered-config-loads.test.ts does not cover. */
import { expect, test } from 'vitest';
import { loadsAsRendered } from '../support/loads-as-rendered.ts';
import { FEW_SCENARIOS, goodScenarios } from '../support/scenarios.ts';

const others = goodScenarios().filter((name) => !FEW_SCENARIOS.includes(name));

test('more than 20 scenarios are left', () => {
  expect(others.length).toBeGreaterThan(20);
});

loadsAsRendered(others);
