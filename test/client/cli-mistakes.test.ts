import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
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

interface Surroundings {
  env?: Record<string, string>;
  isTTY?: boolean;
}

/** The command line in this process: for all that needs neither signals nor real pipes. */
function startHere(args: string[], { env = {}, isTTY = false }: Surroundings = {}) {
  const [stdin, stdout] = [new PassThrough(), new PassThrough()];
  const stderr = Object.assign(new PassThrough(), { isTTY });
  const said = { stdout: '', stderr: '' };
  stdout.on('data', (data) => (said.stdout += data));
  stderr.on('data', (data) => (said.stderr += data));
  const settings = { MOBVIBE_URL: harness.url, MOBVIBE_API_KEY: API_KEY, ...env };
  const code = runCli(args, { stdin, stdout, stderr, env: settings });
  return { stdin, said, ended: code.then((code) => ({ code, ...said })) };
}

const runHere = (args: string[], surroundings?: Surroundings) => startHere(args, surroundings).ended;

describe('mistakes', () => {
  test.each([
    [['sesion', 'list'], /unknown command 'sesion'.*session/],
    [[], /command is missing/],
    [['session'], /command is missing/],
    [['exec'], /missing required argument 'session'/],
    [['exec', 'demo'], /missing required argument 'command'/],
    [['exec', 'demo', 'ls', '-l'], /unknown option '-l'.*"--".*"mobvibe exec --help"/],
    [['session', 'list', '--foo'], /unknown option '--foo'\. See "mobvibe session list --help"/],
    [['session', 'create', '--cpus', 'many'], /many.*whole number/],
    [['session', 'stop', 'demo', '--grace-ms', '-1'], /-1.*whole number, 0 or more/],
    [['session', 'create', '--cpu-kind', 'quantum'], /quantum.*shared, performance/],
    [['exec', 'demo', '--env', 'A', '--', 'ls'], /NAME=VALUE/],
    [['files', 'put', '.', ':x'], /SESSION:PATH/],
  ])('%j: one sentence, exit 2', async (args, sentence) => {
    const { code, stdout, stderr } = await runHere(args);
    expect([code, stdout]).toEqual([2, '']);
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

  test('standard input that can not be read to the end kills the command, and says so', async () => {
    const { stdin, said, ended } = startHere(['exec', 'demo', '--', 'cat']);
    stdin.write('half');
    await vi.waitFor(() => expect(said.stdout).toBe('half'), 20_000);
    stdin.destroy(new Error('unplugged'));
    expect(await ended).toMatchObject({ code: 137, stderr: expect.stringMatching(/killed.*unplugged/) });
  });

  test('the version is the one of the package', async () => {
    const { version } = JSON.parse(await readFile('package.json', 'utf8'));
    expect(await runHere(['--version'])).toMatchObject({ code: 0, stdout: `${version}\n` });
  });
});

describe('help', () => {
  /** The command and all below it, as the help itself names them. */
  async function* commands(path: string[]): AsyncGenerator<[path: string[], help: string]> {
    const { code, stdout, stderr } = await runHere([...path, '--help']);
    expect([code, stderr]).toEqual([0, '']);
    yield [path, stdout];
    const [, list = ''] = stdout.split('\nCommands:\n');
    for (const [, name] of list.split('\n\n')[0]!.matchAll(/^ {2}(\S+)/gm)) {
      if (name !== 'help') yield* commands([...path, name!]);
    }
  }

  test('of every command has examples of that very command', async () => {
    const seen: string[] = [];
    for await (const [path, help] of commands([])) {
      const line = ['mobvibe', ...path].join(' ');
      seen.push(line);
      expect(help.split('Examples:')[1], line).toMatch(new RegExp(`[$(|] ?${line}\\b`));
    }
    expect(seen).toEqual(expect.arrayContaining(['mobvibe exec', 'mobvibe files put', 'mobvibe job logs']));
    expect(seen.length).toBeGreaterThan(15);
  });

  test('is also had with "help"', async () => {
    expect((await runHere(['help', 'exec'])).stdout).toContain('$ mobvibe exec demo');
  });
});

describe('a terminal', () => {
  /** What was drawn, one over the other. */
  const drawn = (text: string) => text.split('\r\x1b[2K');

  test('sees that something goes on, until there is an answer', async () => {
    const gate = Promise.withResolvers<void>();
    harness.fake.mayCreate = gate.promise;
    const { said, ended } = startHere(['session', 'create', '--id', 'slow'], { isTTY: true });
    await vi.waitFor(() => expect(drawn(said.stderr)[1]).toMatch(/^. Starting a sandbox$/), 20_000);
    gate.resolve();
    const { code, stdout, stderr } = await ended;
    expect([code, stdout]).toEqual([0, expect.stringContaining('slow is ready')]);
    expect(drawn(stderr).at(-1)).toBe('');
  });

  test('sees that a job is waited for, until it says something', async () => {
    const { said, ended } = startHere(['job', 'run', 'demo', '--id', 'quiet', '--', 'ls'], { isTTY: true });
    await vi.waitFor(() => expect(drawn(said.stderr)[1]).toMatch(/^. Waiting for job quiet$/), 20_000);
    harness.fake.say('quiet', 'stderr', 'a word\n');
    Object.assign(harness.fake.job('quiet'), {
      status: 'succeeded',
      ended_at: new Date().toISOString(),
      result: { result: { kind: 'exited', code: 0 }, stdout_bytes: 0, stderr_bytes: 7, duration_ms: 1 },
    });
    const { code, stderr } = await ended;
    expect(code).toBe(0);
    expect(drawn(stderr).at(-1)).toBe('a word\n');
  });

  test.each([
    ['--json', ['--json'], true],
    ['no terminal', [], false],
  ])('with %s sees nothing of it', async (_what, more, isTTY) => {
    const args = ['job', 'run', 'demo', '--id', 'unseen', ...more, '--', 'ls'];
    const { said, ended } = startHere(args, { isTTY });
    await vi.waitFor(() => harness.fake.job('unseen'), 20_000);
    harness.fake.say('unseen', 'stdout', 'out\n');
    await vi.waitFor(() => expect(said.stdout).toContain('out'), 20_000);
    Object.assign(harness.fake.job('unseen'), { status: 'canceled', ended_at: new Date().toISOString() });
    expect((await ended).stderr).not.toContain('Waiting');
    harness.fake.jobs.delete('unseen');
    harness.fake.jobOutput.delete('unseen');
  });
});
