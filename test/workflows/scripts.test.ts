import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

/** The workflows' shell scripts, with a stand-in for `gh` and `npx` that notes how it was called. */
let folder: string;
const at = (name: string) => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mobvibe-workflow-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function standIn(name: string, body: string): void {
  writeFileSync(at(name), `#!/usr/bin/env bash\nprintf '%s\\n' "$*" >> ${at('calls')}\n${body}\n`);
  chmodSync(at(name), 0o755);
}

function run(script: string, args: string[], env: Record<string, string>, input = '') {
  return spawnSync(resolve('.github', script), args, {
    input,
    encoding: 'utf8',
    timeout: 30_000,
    env: { PATH: `${folder}:${process.env.PATH}`, GITHUB_ENV: at('env'), ...env },
  });
}
const calls = () => readFileSync(at('calls'), 'utf8').trimEnd().split('\n');

describe('comment.sh', () => {
  const env = { PR: '7', GITHUB_REPOSITORY: 'acme/sandboxes' };

  test('makes a comment where there is none', () => {
    standIn('gh', '');
    expect(run('comment.sh', [], env, 'Preview: https://x').status).toBe(0);
    expect(calls()[0]).toContain('api repos/acme/sandboxes/issues/7/comments --paginate');
    expect(calls().slice(1).join('\n')).toBe(
      'api --method POST repos/acme/sandboxes/issues/7/comments -f body=<!-- mobvibe preview -->\nPreview: https://x --silent',
    );
  });

  test('changes the one of the last time', () => {
    standIn('gh', '[[ "$*" == *--paginate* ]] && echo 42 || true');
    expect(run('comment.sh', [], env, 'Gone').status).toBe(0);
    expect(calls()[1]).toContain('api --method PATCH repos/acme/sandboxes/issues/comments/42');
  });

  test('fails with gh', () => {
    standIn('gh', 'exit 4');
    expect(run('comment.sh', [], env, 'x').status).not.toBe(0);
  });
});

describe('supabase-branch.sh', () => {
  const env = { SUPABASE_PREVIEW_REF: 'ref', SUPABASE_BRANCH_POLL_SECONDS: '0' };
  const READY = [
    'POSTGRES_URL="postgresql://postgres.x:pw@pooler.example:6543/postgres?a=b"',
    'POSTGRES_URL_NON_POOLING="postgresql://postgres:pw@db.example:5432/postgres"',
    'SUPABASE_URL="https://x.supabase.co"',
    'SUPABASE_SERVICE_ROLE_KEY="key"',
  ].join('\n');

  test('makes the branch once, waits until it is ready, masks what it hands on', () => {
    writeFileSync(at('ready'), READY);
    // Ready at the third look.
    standIn(
      'npx',
      `[[ "$*" == *" get "* ]] || exit 0\n[ "$(grep -c ' get ' ${at('calls')})" -ge 3 ] && cat ${at('ready')}`,
    );
    const done = run('supabase-branch.sh', ['get', 'pr-7'], env);
    expect(done.status, done.stderr).toBe(0);
    expect(calls().map((line) => line.split(' ')[3])).toEqual(['get', 'create', 'get', 'get']);
    expect(calls()[1]).toBe('--yes supabase@3.1.0 branches create pr-7 --remote=ref --yes');
    const values = [
      'https://x.supabase.co',
      'key',
      'postgresql://postgres.x:pw@pooler.example:5432/postgres?a=b',
    ];
    expect(readFileSync(at('env'), 'utf8')).toBe(
      `SUPABASE_URL=${values[0]}\nSUPABASE_SERVICE_ROLE_KEY=${values[1]}\nSUPABASE_DB_URL=${values[2]}\n`,
    );
    expect(done.stdout).toBe(values.map((value) => `::add-mask::${value}\n`).join(''));
  });

  test('fails where something is missing, and says what', () => {
    standIn('npx', 'echo \'SUPABASE_URL="https://x"\'');
    const done = run('supabase-branch.sh', ['get', 'pr-7'], env);
    expect([done.status, done.stderr]).toEqual([1, 'the branch pr-7 has no SUPABASE_SERVICE_ROLE_KEY\n']);
  });

  test('takes it away', () => {
    standIn('npx', '');
    expect(run('supabase-branch.sh', ['delete', 'pr-7'], env).status).toBe(0);
    expect(calls()).toEqual(['--yes supabase@3.1.0 branches delete pr-7 --remote=ref --yes']);
  });
});
