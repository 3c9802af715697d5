import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../../client/cli/cli.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';

let harness: Harness;
let local: string;

beforeAll(async () => {
  harness = await Harness.start();
  await harness.fake.open('demo');
  local = await mkdtemp(join(tmpdir(), 'mobvibe-cli-'));
});

afterAll(async () => {
  await harness.close();
  await rm(local, { recursive: true, force: true });
});

/** The command line in this process: for all that needs neither signals nor real pipes. */
async function runHere(args: string[], { env = {} }: { env?: Record<string, string> } = {}) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const said = { MOBVIBE_URL: harness.url, MOBVIBE_API_KEY: API_KEY, ...env };
  const code = await runCli(args, { stdin, stdout, stderr, env: said });
  return { code, stdout: stdout.read() ?? '', stderr: String(stderr.read() ?? '') };
}

describe('mistakes', () => {
  test.each([
    [['sesion', 'list'], /unknown command 'sesion'.*session/],
    [[], /command is missing/],
    [['session'], /command is missing/],
    [['exec'], /missing required argument 'session'/],
    [['exec', 'demo'], /missing required argument 'command'/],
    [['exec', 'demo', 'ls', '-l'], /unknown option '-l'.*"--"/],
    [['session', 'create', '--cpus', 'many'], /many.*whole number/],
    [['session', 'create', '--cpu-kind', 'quantum'], /quantum.*shared, performance/],
    [['exec', 'demo', '--env', 'A', '--', 'ls'], /NAME=VALUE/],
    [['files', 'put', '.', ':x'], /SESSION:PATH/],
  ])('%j: one sentence, exit 2', async (args, sentence) => {
    const { code, stdout, stderr } = await runHere(args);
    expect([code, String(stdout)]).toEqual([2, '']);
    expect(stderr).toMatch(sentence);
    expect(stderr.trim().split('\n')).toHaveLength(1);
    const json = await runHere([...args.slice(0, 1), '--json', ...args.slice(1)]);
    expect(JSON.parse(json.stderr).error).toMatchObject({ code: 'invalid_option' });
  });

  test('no settings, settings that are broken, no connection: exit 2, and what to do', async () => {
    const none = { MOBVIBE_URL: '', MOBVIBE_API_KEY: '' };
    const missing = await runHere(['session', 'list'], { env: none });
    expect(missing).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/local\.json.*mobvibe up.*MOBVIBE_URL/),
    });
    const file = join(local, 'broken.json');
    await writeFile(file, '{');
    const broken = await runHere(['session', 'list'], { env: { ...none, MOBVIBE_CONFIG_FILE: file } });
    expect(broken).toMatchObject({ code: 2, stderr: expect.stringContaining('broken.json is not JSON') });
    const away = await runHere(['session', 'list'], { env: { MOBVIBE_URL: 'http://127.0.0.1:1' } });
    expect(away).toMatchObject({ code: 2, stderr: expect.stringContaining('mobvibe up') });
    const key = await runHere(['session', 'list'], { env: { MOBVIBE_API_KEY: 'hunter2' } });
    expect(key).toMatchObject({ code: 2, stderr: expect.stringContaining('mvk_') });
    expect(key.stderr).not.toContain('hunter2');
  });

  test('settings can come from a file', async () => {
    const file = join(local, 'local.json');
    await writeFile(file, JSON.stringify({ url: harness.url, apiKey: API_KEY }));
    const env = { MOBVIBE_URL: '', MOBVIBE_API_KEY: '', MOBVIBE_CONFIG_FILE: file };
    expect((await runHere(['session', 'show', 'demo'], { env })).code).toBe(0);
  });

  test('help has examples, also of a command, and exits 0', async () => {
    for (const args of [
      ['--help'],
      ['exec', '--help'],
      ['files', '--help'],
      ['job', '--help'],
      ['help', 'exec'],
    ]) {
      const { code, stdout } = await runHere(args);
      expect([code, String(stdout)]).toEqual([0, expect.stringContaining('$ mobvibe')]);
    }
  });
});
