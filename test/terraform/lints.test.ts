/** tflint with the rules for azurerm, and checkov, over deploy/azure. An exception stands with its reason where it applies. */
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT, textOf } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';
import { run, TFLINT_CONFIG } from '../support/terraform.ts';

const FOLDER = join(ROOT, 'deploy/azure');
const PATIENCE_MS = 300_000;

describe.skipIf(cannotRun('tflint over deploy/azure', 'tflint'))('tflint', () => {
  test(
    'finds nothing',
    async () => {
      const args = ['--recursive', `--config=${TFLINT_CONFIG}`, '--format=json'];
      const { stdout, stderr } = await run('tflint', args, FOLDER);
      expect(stdout, stderr).not.toBe('');
      expect(JSON.parse(stdout)).toMatchObject({ issues: [], errors: [] });
    },
    PATIENCE_MS,
  );
});

interface Checks {
  readonly results: {
    readonly passed_checks: readonly unknown[];
    readonly failed_checks: readonly { check_id: string; file_path: string; resource: string }[];
    readonly parsing_errors: readonly string[];
  };
}

describe.skipIf(cannotRun('checkov over deploy/azure', 'checkov'))('checkov', () => {
  test(
    'finds nothing, and reads every file but those that say why it cannot',
    async () => {
      const args = [
        '--directory=.',
        '--framework=terraform',
        '--compact',
        '--skip-download',
        '--output=json',
      ];
      const { stdout, stderr } = await run('checkov', args, FOLDER);
      expect(stdout, stderr).not.toBe('');
      const { passed_checks, failed_checks, parsing_errors } = (JSON.parse(stdout) as Checks).results;
      expect(
        failed_checks.map(({ check_id, file_path, resource }) => [check_id, file_path, resource]),
      ).toEqual([]);
      expect(passed_checks.length).toBeGreaterThan(0);
      for (const file of parsing_errors)
        expect(textOf(`deploy/azure/${file.replace(/.*deploy\/azure\//, '')}`)).toMatch(/# .*\bCheckov\b/);
    },
    PATIENCE_MS,
  );
});
