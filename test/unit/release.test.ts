/** The scripts of a release, run with fake programs that only record how they are called. */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { notesOf, problemsOf, sectionsOf } from '../../.github/scripts/release.mjs';
import { ROOT, textOf } from '../support/repository.ts';
import { cannotRun } from '../support/requirements.ts';
import { workspace } from '../support/workspace.ts';

const inFolder = workspace();
const { version } = JSON.parse(textOf('package.json'));

const CHANGELOG = `# Changelog

## Unreleased

## 1.3.0 - 2027-01-31

### Added

- A thing.

## 1.2.3-rc.1 - 2026-12-31

- Another.
`;
const good = { version: '1.3.0', lockedVersion: '1.3.0', changelog: CHANGELOG };

describe('the check of a release', () => {
  test('accepts a tag that package.json and the changelog agree with', () => {
    expect(problemsOf('v1.3.0', good)).toEqual([]);
    const early = { ...good, version: '1.2.3-rc.1', lockedVersion: '1.2.3-rc.1' };
    expect(problemsOf('v1.2.3-rc.1', early)).toEqual([]);
  });

  test.each([
    ['v1.3.1', good, ['The tag is v1.3.1, and package.json has the version 1.3.0: tag v1.3.0.']],
    ['1.3.0', good, ['The tag is 1.3.0, and package.json has the version 1.3.0: tag v1.3.0.']],
    ['v1.3.0', { ...good, lockedVersion: '1.2.0' }, [/^package-lock\.json has the version 1\.2\.0: /]],
    [
      'v1.4.0',
      { ...good, version: '1.4.0', lockedVersion: '1.4.0' },
      [/has no section "## 1\.4\.0 - YYYY-MM-DD"/],
    ],
    [
      'v1.3.0',
      { ...good, changelog: CHANGELOG.replace(' - 2027-01-31', '') },
      [/write the date of the release/],
    ],
    [
      'v1.3.0',
      { ...good, changelog: CHANGELOG.replace('### Added\n\n- A thing.', '') },
      [/says nothing of 1\.3\.0/],
    ],
    [
      'v1.3.0',
      { ...good, changelog: CHANGELOG.replace('Unreleased\n', 'Unreleased\n\n- More.\n') },
      [/under "## Unreleased"/],
    ],
    [
      'v1.3',
      { ...good, version: '1.3', lockedVersion: '1.3' },
      [/write MAJOR\.MINOR\.PATCH/, /has no section/],
    ],
  ])('rejects %s and says why', (tag, given, expected) => {
    const problems = problemsOf(tag, given);
    expect(problems).toHaveLength(expected.length);
    for (const [index, each] of expected.entries()) expect(problems[index]).toMatch(each);
  });

  test('takes the notes from the changelog section of the version', () => {
    expect(notesOf('v1.3.0', CHANGELOG)).toBe('### Added\n\n- A thing.');
    expect(notesOf('v9.9.9', CHANGELOG)).toBeUndefined();
  });

  test('the changelog has unreleased changes or a section for this version', () => {
    const sections = sectionsOf(textOf('CHANGELOG.md'));
    expect([...sections.keys()][0]).toBe('Unreleased');
    expect(sections.get('Unreleased')?.text || sections.get(version)?.text).toBeTruthy();
    expect(JSON.parse(textOf('package-lock.json')).version).toBe(version);
    expect(JSON.parse(textOf('package-lock.json')).packages[''].version).toBe(version);
  });
});

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;

/** Runs a script with fake programs that record their arguments, and their standard input after `<`. */
function run(
  script: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  fails = '',
) {
  const bin = inFolder('bin');
  mkdirSync(bin, { recursive: true });
  for (const program of ['docker', 'cosign', 'npm', 'gh']) {
    inFolder(
      `bin/${program}`,
      `#!/bin/bash
printf '%s\\n' "${program} $*" >>"$CALLS"
case "${program} $*" in
${fails === '' ? '' : `${fails}*) exit 1 ;;`}
'docker login'*) sed 's/^/< /' >>"$CALLS" ;;
'docker buildx build'*)
  while [ $# -gt 0 ]; do
    [ "$1" != --metadata-file ] || printf '{"containerimage.digest":"${DIGEST}"}' >"$2"
    shift
  done ;;
'docker buildx imagetools inspect'*) printf '{"digest":"${DIGEST}"}' ;;
'gh release create'*) for each; do [ ! -f "$each" ] || sed 's/^/< /' "$each" >>"$CALLS"; done ;;
esac
`,
    );
    chmodSync(inFolder(`bin/${program}`), 0o755);
  }
  const calls = inFolder('calls', '');
  const { status, stdout, stderr } = spawnSync(join(ROOT, '.github/scripts', script), args, {
    cwd: inFolder('.'),
    env: {
      PATH: `${bin}:${dirname(process.execPath)}:/usr/bin:/bin`,
      CALLS: calls,
      USER: 'somebody',
      ...env,
    },
    encoding: 'utf8',
  });
  return { code: status, stdout, stderr, calls: readFileSync(calls, 'utf8') };
}

describe.skipIf(cannotRun('the scripts of a release', 'bash', 'jq'))('image.sh', () => {
  const GITHUB = { GITHUB_REPOSITORY: 'Somebody/genai-gateway', GITHUB_ACTOR: 'somebody' };
  const IMAGE = 'ghcr.io/somebody/genai-gateway';

  test('logs in with the password on standard input, not in an argument', () => {
    const { code, calls } = run('image.sh', ['login'], {
      ...GITHUB,
      REGISTRY_PASSWORD: 'secret-of-a-registry',
    });
    expect({ code, calls }).toEqual({
      code: 0,
      calls: 'docker login ghcr.io --username somebody --password-stdin\n< secret-of-a-registry\n',
    });
  });

  test('builds for one platform with an SBOM and provenance, and writes the digest to a file', () => {
    const { code, calls, stderr } = run(
      'image.sh',
      ['build', 'linux/arm64', inFolder('digests/arm64')],
      GITHUB,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(readFileSync(inFolder('digests/arm64'), 'utf8')).toBe(`${DIGEST}\n`);
    for (const each of [
      '--platform linux/arm64',
      '--attest type=sbom',
      '--attest type=provenance,mode=max',
      `--build-arg VERSION=${version}`,
      '--build-arg SOURCE=https://github.com/Somebody/genai-gateway',
      `--output type=image,name=${IMAGE},push-by-digest=true`,
    ]) {
      expect(calls).toContain(` ${each}`);
    }
  });

  test('publishes the platforms as one image, signs it and verifies the signature', () => {
    const files = ['amd64', 'arm64'].map((name, index) => inFolder(name, `sha256:${index}\n`));
    const { code, calls, stderr } = run('image.sh', ['publish', ...files], {
      ...GITHUB,
      GITHUB_REF: 'refs/tags/v9',
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const minor = version.replace(/\.\d+$/, '');
    const lines = calls.trim().split('\n');
    expect(lines[0]).toMatch(/^docker run --rm .*NODE_LICENSE/);
    expect(lines.slice(1)).toEqual([
      `docker buildx imagetools create --tag ${IMAGE}:${version} --tag ${IMAGE}:${minor} --tag ${IMAGE}:latest ${IMAGE}@sha256:0 ${IMAGE}@sha256:1`,
      `docker buildx imagetools inspect --format {{json .Manifest}} ${IMAGE}:${version}`,
      `cosign sign --yes --recursive ${IMAGE}@${DIGEST}`,
      expect.stringMatching(
        /^cosign verify .*--certificate-identity https:\/\/github\.com\/Somebody\/genai-gateway\/\.github\/workflows\/release\.yml@refs\/tags\/v9 /,
      ),
    ]);
  });

  test.each(["'docker run'", "'docker buildx imagetools create'", "'cosign sign'", "'cosign verify'"])(
    'exits with 1 when %s fails, and runs nothing after it',
    (command) => {
      const { code, calls } = run('image.sh', ['publish', inFolder('amd64', 'sha256:0\n')], GITHUB, command);
      expect(code).toBe(1);
      expect(calls.trim().split('\n').at(-1)).toContain(command.replaceAll("'", ''));
    },
  );

  test('exits with 1 when it does not know where to push', () => {
    const { code, stderr, calls } = run('image.sh', ['build', 'linux/amd64', inFolder('digest')]);
    expect({ code, calls }).toEqual({ code: 1, calls: '' });
    expect(stderr).toContain('set IMAGE to where the image is pushed');
    expect(existsSync(inFolder('digest'))).toBe(false);
  });

  test('prints its usage and exits with 64 for an unknown command', () => {
    const { code, stderr } = run('image.sh', ['nonsense'], GITHUB);
    expect(code).toBe(64);
    expect(stderr).toMatch(/image\.sh login.*image\.sh build PLATFORM FILE.*image\.sh publish FILE/s);
  });
});

describe.skipIf(cannotRun('the scripts of a release', 'bash'))('the other release scripts', () => {
  test('publish-package.sh publishes the package of this version with provenance', () => {
    const tarball = inFolder(`genai-gateway-${version}.tgz`, '');
    const { code, calls } = run('publish-package.sh', [tarball]);
    expect(code).toBe(0);
    expect(calls).toMatch(
      /^npm publish \.\/\S+\/genai-gateway-\S+\.tgz --access public --tag latest --provenance\n$/,
    );
    expect(run('publish-package.sh', [tarball], { DRY_RUN: 'true' }).calls).toMatch(/ --dry-run\n$/);
  });

  test('publish-package.sh rejects the package of another version', () => {
    const { code, calls, stderr } = run('publish-package.sh', [inFolder('genai-gateway-9.9.9.tgz', '')]);
    expect({ code, calls }).toEqual({ code: 1, calls: '' });
    expect(stderr).toContain(`is not the package of version ${version}`);
  });

  test('release-page.sh creates a release with the changelog section of its version', () => {
    const [released = ''] = [...sectionsOf(textOf('CHANGELOG.md')).keys()].filter((each) => /^\d/.test(each));
    const { code, calls } = run('release-page.sh', [inFolder('a.tgz', '')], {
      GITHUB_REF_NAME: `v${released}`,
    });
    expect(code).toBe(0);
    expect(calls).toMatch(new RegExp(`^gh release create v${released} --verify-tag .*/a\\.tgz\\n`));
    const notes = notesOf(`v${released}`, textOf('CHANGELOG.md')) ?? '';
    expect(calls).toContain(
      notes
        .split('\n')
        .map((line) => `< ${line}`)
        .join('\n'),
    );
  });

  test('release-page.sh rejects a version that the changelog does not have', () => {
    const { code, calls } = run('release-page.sh', [inFolder('a.tgz', '')], { GITHUB_REF_NAME: 'v9.9.9' });
    expect({ code, calls }).toEqual({ code: 1, calls: '' });
  });
});
