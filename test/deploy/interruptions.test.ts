/** Ctrl-C in each step of `deploy`: the program that runs ends by itself, and running the command again completes it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Doubles } from '../support/deploy/doubles.ts';
import { until } from '../support/until.ts';

const TIMEOUT_MS = 90_000;
/** Until a step is reached. */
const STEP_MS = 40_000;

let doubles: Doubles;
beforeEach(async () => {
  doubles = await new Doubles().start();
});
afterEach(() => doubles.stop());

/** What hangs in the step, how its call is known, and what was not done when it is interrupted. */
const STEPS = [
  [
    'bootstrap',
    'terraform apply .*@00-bootstrap',
    [],
    'observability, platform, foundry, image, secrets, workload, ready',
  ],
  [
    'observability',
    'terraform init .*@05-observability',
    [],
    'platform, foundry, image, secrets, workload, ready',
  ],
  ['platform', 'terraform apply .*@10-platform', [], 'foundry, image, secrets, workload, ready'],
  ['foundry', 'terraform plan .*@15-foundry', [], 'image, secrets, workload, ready'],
  ['image', 'az acr build', [], 'secrets, workload, ready'],
  ['image', 'docker build', ['--local-docker'], 'secrets, workload, ready'],
  ['workload', 'terraform apply .*@20-workload', [], 'ready'],
] as const;

describe('Ctrl-C', () => {
  test.each(STEPS)(
    'in the step %s (%s) ends the program, and says what is left',
    async (step, match, options, left) => {
      doubles.faults({ match, hang: true });
      const begun = () =>
        doubles
          .calls()
          .some(({ tool, args, stack }) =>
            new RegExp(match).test(
              tool === 'terraform' ? `${tool} ${args.join(' ')} @${stack}` : `${tool} ${args.join(' ')}`,
            ),
          );
      const { code, stderr } = await doubles.run(['dev', ...options], {
        during: async (child) => {
          await until(begun, STEP_MS);
          child.kill('SIGINT');
        },
      });
      expect(code).toBe(130);
      expect(stderr).toMatch(/^Interrupted\.$/m);
      expect(stderr).toMatch(new RegExp(`^Stopped: {3}${step}`, 'm'));
      expect(stderr).toMatch(new RegExp(`^Not done: {2}${left}$`, 'm'));
      expect(stderr).toContain(
        `To go on, run it again: genai-gateway deploy dev${options.map((each) => ` ${each}`).join('')}`,
      );
      // The signal reached the program once, so that it could end what it was doing.
      expect(doubles.signals()).toHaveLength(1);
      expect(existsSync(join(doubles.folder, 'environments/.deploy/dev/run.lock'))).toBe(false);
      for (const stack of ['00-bootstrap', '10-platform', '20-workload'])
        expect(
          existsSync(
            join(doubles.folder, `environments/.deploy/dev/deploy/azure/stacks/${stack}/deploy.tfplan`),
          ),
        ).toBe(false);

      const again = await doubles.run(['dev', ...options]);
      expect(again.code, again.stderr).toBe(0);
      expect(again.stdout).toMatch(/The gateway answers at/);
    },
    TIMEOUT_MS,
  );

  test(
    'between programs, while a new revision is awaited, ends the wait',
    async () => {
      doubles.readiness = 503;
      const { code, stderr } = await doubles.run(['dev'], {
        during: async (child) => {
          await until(() => doubles.commands().includes('az containerapp show'), STEP_MS);
          await until(() => doubles.asked > 0, STEP_MS);
          child.kill('SIGINT');
        },
      });
      expect(code).toBe(130);
      expect(stderr).toMatch(/^Done: .*workload \(3 changes\)$/m);
      expect(stderr).toMatch(/^Stopped: {3}ready$/m);
    },
    TIMEOUT_MS,
  );

  test(
    'while secrets are written ends at once',
    async () => {
      doubles.denied = true;
      const { code, stderr } = await doubles.run(['dev'], {
        during: async (child) => {
          await until(() => doubles.asked > 0, STEP_MS);
          child.kill('SIGINT');
        },
      });
      expect(code).toBe(130);
      expect(stderr).toMatch(/waiting for the role Key Vault Secrets Officer/);
      expect(stderr).toMatch(/^Stopped: {3}secrets$/m);
      doubles.denied = false;
      expect((await doubles.run(['dev'])).code).toBe(0);
    },
    TIMEOUT_MS,
  );
});
