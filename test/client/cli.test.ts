import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { runCli } from '../../client/cli/cli.ts';
import { CodedError } from '../../controller/errors.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';
import { Cli, type CliRun } from './support/run-cli.ts';

let harness: Harness;
let local: string;
const running: Cli[] = [];

beforeAll(async () => {
  harness = await Harness.start();
  await harness.fake.open('demo');
  local = await mkdtemp(join(tmpdir(), 'mobvibe-cli-'));
});

afterAll(async () => {
  for (const { child } of running) if (child.exitCode === null) child.kill('SIGKILL');
  await harness.close();
  await rm(local, { recursive: true, force: true });
});

function start(args: string[], env: Record<string, string> = {}): Cli {
  const cli = new Cli(args, { MOBVIBE_URL: harness.url, MOBVIBE_API_KEY: API_KEY, ...env });
  running.push(cli);
  return cli;
}

/** Runs it to its end with the given input. */
function run(
  args: string[],
  { input = '', env = {} }: { input?: string | Buffer; env?: Record<string, string> } = {},
): Promise<CliRun> {
  const cli = start(args, env);
  cli.child.stdin!.end(input);
  return cli.ended;
}

describe('exec', () => {
  test.each([
    ['its own code', ['--', 'sh', '-c', 'exit 42'], 42],
    ['0', ['--', 'true'], 0],
    ['128+n when a signal killed it', ['--', 'sh', '-c', 'kill -KILL $$'], 137],
    ['124 past its deadline', ['--timeout-ms', '50', '--', 'sleep', '60'], 124],
    ['125 when it could not be started', ['--', '/no/such/program'], 125],
  ])('exits with %s', async (_what, args, code) => {
    expect((await run(['exec', 'demo', ...args])).code).toBe(code);
  });

  test.each([
    ['no such session', ['exec', 'nobody', '--', 'true'], {}, 'session_not_found'],
    [
      'no controller',
      ['exec', 'demo', '--', 'true'],
      { MOBVIBE_URL: 'http://127.0.0.1:1' },
      'controller_unreachable',
    ],
    ['a wrong key', ['exec', 'demo', '--', 'true'], { MOBVIBE_API_KEY: 'mvk_wrong_key_0' }, 'unauthorized'],
  ])('with %s exits 125, says which code on stderr and nothing on stdout', async (_what, args, env, code) => {
    const plain = await run(args, { env });
    expect([plain.code, String(plain.stdout)]).toEqual([125, '']);
    expect(plain.stderr).toMatch(new RegExp(`^mobvibe: .*\\[${code}\\]\n$`));
    const json = await run([...args.slice(0, 2), '--json', ...args.slice(2)], { env });
    expect([json.code, String(json.stdout)]).toEqual([125, '']);
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code } });
  });

  test('passes stdin and both outputs byte for byte', async () => {
    const input = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) % 256));
    const onlyErr = await run(['exec', 'demo', '--shell', '--', 'cat >&2'], { input: 'abc' });
    expect(onlyErr).toMatchObject({ code: 0, stdout: Buffer.alloc(0), stderr: 'abc' });
    const binary = await run(['exec', 'demo', '--', 'cat'], { input });
    const sha = (data: Buffer) => createHash('sha256').update(data).digest('hex');
    expect(sha(binary.stdout)).toBe(sha(input));
  });

  test('gives directory and variables; words reach the program as they are', async () => {
    const args = [
      '--cwd',
      '.',
      '--env',
      'A=1 2',
      '--env',
      'B==',
      '--',
      'sh',
      '-c',
      'echo "$A|$B|$1|$#"',
      'sh',
      '--json',
      '-x',
    ];
    expect(String((await run(['exec', 'demo', ...args])).stdout)).toBe('1 2|=|--json|2\n');
  });

  test('a machine that goes on the way: 125, machine_lost', async () => {
    await harness.fake.open('short');
    const cli = start(['exec', 'short', '--no-stdin', '--shell', '--', 'echo started; sleep 60']);
    await vi.waitFor(() => expect(cli.output).toBe('started\n'), 20_000);
    await harness.fake.stop('short');
    const { code, stderr } = await cli.ended;
    expect([code, stderr]).toEqual([125, expect.stringContaining('[machine_lost]')]);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('forwards %s to the command', async (signal, code) => {
    const cli = start(['exec', 'demo', '--no-stdin', '--shell', '--', 'echo ready; sleep 60']);
    await vi.waitFor(() => expect(cli.output).toBe('ready\n'), 20_000);
    cli.child.kill(signal);
    expect(await cli.ended).toMatchObject({ code, signal: null });
  });

  test('a command that handles the signal exits as it likes', async () => {
    const script = 'trap "echo caught; exit 9" INT; echo ready; while :; do sleep 0.05; done';
    const cli = start(['exec', 'demo', '--no-stdin', '--shell', '--', script]);
    await vi.waitFor(() => expect(cli.output).toBe('ready\n'), 20_000);
    cli.child.kill('SIGINT');
    expect(await cli.ended).toMatchObject({ code: 9 });
    expect(cli.output).toBe('ready\ncaught\n');
  });

  test('with --json prints one value and exits with the same code', async () => {
    const { code, stdout, stderr } = await run([
      'exec',
      'demo',
      '--json',
      '--shell',
      '--',
      'echo out; echo err >&2; exit 3',
    ]);
    expect([code, stderr]).toEqual([3, '']);
    expect(JSON.parse(String(stdout))).toMatchObject({
      stdout: 'out\n',
      stderr: 'err\n',
      exit_code: 3,
      result: { kind: 'exited', code: 3 },
      truncated: false,
    });
  });

  test('with --json keeps the beginning of a flood, and says that there was more', async () => {
    const flood = 'head -c 15000000 /dev/zero | tr "\\0" x';
    const { code, stdout } = await run(['exec', 'demo', '--json', '--shell', '--', flood]);
    const said = JSON.parse(String(stdout));
    expect([code, said.stdout.length, said.truncated]).toEqual([0, 10 * 1024 * 1024, true]);
  });

  test('whose reader goes away ends, and so does the command', async () => {
    const cli = start(['exec', 'demo', '--no-stdin', '--', 'yes']);
    cli.child.stdout!.once('data', () => cli.child.stdout!.destroy());
    expect(await cli.ended).toMatchObject({ code: 141 });
    await vi.waitFor(async () => {
      const { items } = await (await harness.fetch('/v1/sessions/demo/execs')).json();
      expect(items.at(-1)).toMatchObject({ state: 'ended', result: { kind: 'signaled', signal: 'SIGPIPE' } });
    }, 20_000);
  });
});

describe('sessions', () => {
  test('are created, shown, listed, stopped and opened', async () => {
    expect(String((await run(['session', 'create', '--id', 'cli'])).stdout)).toMatch(
      /^cli is ready on machine/,
    );
    expect(String((await run(['session', 'list'])).stdout)).toMatch(/ID +STATUS[\s\S]*cli +ready/);
    // Wherever it stands.
    const list = ['session', 'list', '--limit', '1'];
    for (const at of [0, 1, 2, 4]) {
      const { stdout } = await run([...list.slice(0, at), '--json', ...list.slice(at)]);
      expect(JSON.parse(String(stdout))).toMatchObject({
        items: [{ id: 'cli' }],
        next_cursor: expect.any(String),
      });
    }
    expect(String((await run(['session', 'show', 'cli'])).stdout)).toMatch(/status +ready/);
    expect(JSON.parse(String((await run(['session', 'stop', 'cli', '--json'])).stdout))).toMatchObject({
      status: 'stopped',
    });
    expect(String((await run(['session', 'open', 'cli'])).stdout)).toMatch(/^cli is ready/);
    expect((await run(['session', 'events', 'cli'])).code).toBe(0);
  });

  describe('whose files can not be saved', () => {
    beforeAll(async () => {
      await harness.fake.open('stuck');
      const save = {
        ...{ state: 'failing', since: '2026-11-28T10:00:00Z' },
        ...{ code: 'storage_full', detail: 'the quota is used up' },
      };
      Object.assign(harness.fake.session('stuck').row, { save, save_attempts: 7 });
      harness.fake.stopFails = new CodedError('save_failed', 'version 0 stands; 2 files are not saved');
    });
    afterAll(() => {
      harness.fake.stopFails = null;
    });

    test('say so, and what is not saved', async () => {
      const { code, stdout } = await run(['session', 'show', 'stuck']);
      expect([code, String(stdout)]).toEqual([
        0,
        expect.stringMatching(
          /saves fail +since 2026-11-28T10:00:00Z, 7 tries\nbecause +storage_full: the quota is used up\nnot saved +2 files, 10 bytes \(since version 1\): a.txt, b.txt\n/,
        ),
      ]);
      const json = await run(['session', 'show', 'stuck', '--json']);
      expect(JSON.parse(String(json.stdout))).toMatchObject({
        ...{ id: 'stuck', save: { state: 'failing' }, unsaved: { files: 2 } },
      });
    });

    test('are not asked for once they are given up', async () => {
      const { row } = harness.fake.session('stuck');
      const { status } = row;
      Object.assign(row, { status: 'failed' });
      const { stdout } = await run(['session', 'show', 'stuck']);
      Object.assign(row, { status });
      expect(String(stdout)).toMatch(/^status +failed$/m);
      expect(String(stdout)).not.toMatch(/saves fail|not saved/);
    });

    test('are copied out by rescue, byte for byte, but not to a terminal', async () => {
      const tar = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) % 256));
      harness.fake.rescue = () => Readable.from([tar.subarray(0, 1000), tar.subarray(1000)]);
      const { code, stdout, stderr } = await run(['session', 'rescue', 'stuck']);
      expect([code, stderr, stdout.equals(tar)]).toEqual([0, '', true]);
      const terminal = Object.assign(new PassThrough(), { isTTY: true });
      const said = new PassThrough();
      const env = { MOBVIBE_URL: harness.url, MOBVIBE_API_KEY: API_KEY };
      const streams = { stdin: new PassThrough(), stdout: terminal, stderr: said, env };
      expect(await runCli(['session', 'rescue', 'stuck'], streams)).toBe(2);
      expect([String(said.read()), terminal.read()]).toEqual([
        ...[expect.stringContaining('would go to your terminal'), null],
      ]);
    });

    test('a tar that breaks off exits 1', async () => {
      harness.fake.rescue = () =>
        Readable.from(
          (async function* () {
            yield Buffer.from('half');
            throw new Error('the agent is gone');
          })(),
        );
      const { code, stderr } = await run(['session', 'rescue', 'stuck']);
      expect([code, stderr]).toEqual([1, expect.stringContaining('[connection_lost]')]);
    });

    test('are not given up by a stop, but by one that says so, which tells first what is lost', async () => {
      const kept = await run(['session', 'stop', 'stuck']);
      expect([kept.code, kept.stderr]).toEqual([
        1,
        expect.stringMatching(/session rescue ID .*\[save_failed\]\n$/),
      ]);
      harness.fake.asked.length = 0;
      const { code, stdout, stderr } = await run([
        ...['session', 'stop', 'stuck', '--discard-unsaved', '--grace-ms', '0'],
      ]);
      expect(harness.fake.asked).toEqual([{ graceMs: 0, discardUnsaved: true }]);
      expect([code, stderr, String(stdout)]).toEqual([
        0,
        'mobvibe: not saved: 2 files, 10 bytes (since version 1): a.txt, b.txt\n',
        'stuck is stopped\n',
      ]);
      await harness.fake.open('stuck');
      const json = await run(['session', 'stop', 'stuck', '--discard-unsaved', '--json']);
      expect(JSON.parse(json.stderr)).toMatchObject({ unsaved: { files: 2 } });
    });
  });

  test('open a version', async () => {
    await harness.fake.open('old');
    harness.fake.asked.length = 0;
    expect((await run(['session', 'open', 'old', '--version', '3'])).code).toBe(0);
    expect(harness.fake.asked).toEqual([{ version: 3 }]);
    expect((await run(['session', 'open', 'old', '--version', '0'])).code).toBe(2);
  });

  test('a request that fails exits 1 with its code', async () => {
    const { code, stderr } = await run(['session', 'show', 'nobody']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('[session_not_found]')]);
  });
});

describe('files', () => {
  test('folders, files, standard input and output', async () => {
    const tree = join(local, 'tree');
    await mkdir(join(tree, 'sub'), { recursive: true });
    await writeFile(join(tree, 'sub/run.sh'), 'echo hi\n', { mode: 0o755 });
    await symlink('sub/run.sh', join(tree, 'link'));
    expect(String((await run(['files', 'put', tree, 'demo:copy'])).stdout)).toBe(
      'copied in: 1 file, 8 bytes, 1 link\n',
    );
    expect(String((await run(['files', 'ls', 'demo:copy', '-r'])).stdout)).toMatch(
      /-0755 +8 .* copy\/sub\/run\.sh/,
    );
    await run(['files', 'put', '-', 'demo:copy/in.txt'], { input: 'from stdin' });
    expect(String((await run(['files', 'get', 'demo:copy/in.txt', '-'])).stdout)).toBe('from stdin');
    await run(['files', 'put', join(tree, 'sub/run.sh'), 'demo:copy/']);
    const out = join(local, 'out');
    expect((await run(['files', 'get', 'demo:copy', out])).code).toBe(0);
    expect(await readFile(join(out, 'run.sh'), 'utf8')).toBe('echo hi\n');
    expect(await readFile(join(out, 'link'), 'utf8')).toBe('echo hi\n');
    expect((await run(['files', 'rm', 'demo:copy', '-r'])).code).toBe(0);
    expect(await run(['files', 'ls', 'demo:copy'])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('[file_not_found]'),
    });
  });

  test('a local file that is not there is named', async () => {
    const { code, stderr } = await run(['files', 'put', join(local, 'missing'), 'demo:']);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/missing.*\[local_file\]/)]);
    expect(existsSync(join(local, 'missing'))).toBe(false);
  });
});

describe('jobs', () => {
  const finish = (id: string, code: number) =>
    Object.assign(harness.fake.job(id), {
      status: code === 0 ? 'succeeded' : 'failed',
      ended_at: new Date().toISOString(),
      result: { result: { kind: 'exited', code }, stdout_bytes: 3, stderr_bytes: 0, duration_ms: 1 },
    });

  test('run follows the output and exits with the code of the command', async () => {
    const cli = start(['job', 'run', 'demo', '--id', 'j1', '--', 'npm', 'test']);
    await vi.waitFor(() => harness.fake.job('j1'), 20_000);
    harness.fake.say('j1', 'stdout', 'ok\n');
    finish('j1', 6);
    expect(await cli.ended).toMatchObject({ code: 6, stderr: '' });
    expect(cli.output).toBe('ok\n');
    expect(String((await run(['job', 'show', 'j1'])).stdout)).toMatch(/result +exited 6/);
    expect(String((await run(['job', 'logs', 'j1'])).stdout)).toBe('ok\n');
    expect(String((await run(['job', 'list'])).stdout)).toMatch(/j1 +demo +failed +exited 6/);
    const json = String((await run(['job', 'logs', 'j1', '--json'])).stdout)
      .trim()
      .split('\n');
    expect(json.map((line) => JSON.parse(line))).toMatchObject([
      { stream: 'stdout', data: 'ok\n' },
      { id: 'j1' },
    ]);
  });

  test('run that is left says that the job goes on, and how to end it', async () => {
    const cli = start(['job', 'run', 'demo', '--id', 'j3', '--', 'sleep', '60']);
    await vi.waitFor(() => harness.fake.job('j3'), 20_000);
    harness.fake.say('j3', 'stdout', 'on its way\n');
    await vi.waitFor(() => expect(cli.output).toBe('on its way\n'), 20_000);
    cli.child.kill('SIGINT');
    expect(await cli.ended).toMatchObject({
      code: 125,
      stderr: expect.stringMatching(/j3 goes on.*job cancel j3/),
    });
    expect(harness.fake.job('j3').status).toBe('queued');
  });

  test('logs whose reader goes away end without a fuss', async () => {
    await run(['job', 'run', 'demo', '--id', 'j4', '--detach', '--', 'yes']);
    for (let i = 0; i < 50; i++) harness.fake.say('j4', 'stdout', 'y'.repeat(10_000));
    const cli = start(['job', 'logs', 'j4', '--follow']);
    cli.child.stdout!.once('data', () => {
      cli.child.stdout!.destroy();
      for (let i = 0; i < 50; i++) harness.fake.say('j4', 'stdout', 'y'.repeat(10_000));
    });
    expect(await cli.ended).toMatchObject({ code: 141, stderr: '' });
  });

  test('logs --json give what is not text as base64', async () => {
    await run(['job', 'run', 'demo', '--id', 'j5', '--detach', '--', 'ls']);
    const row = {
      job_id: 'j5',
      seq: 1,
      stream: 'stdout',
      byte_offset: 0,
      data: '/wA=',
      encoding: 'base64',
    } as const;
    harness.fake.jobOutput.set('j5', [row]);
    finish('j5', 0);
    const [first] = String((await run(['job', 'logs', 'j5', '--json'])).stdout).split('\n');
    expect(JSON.parse(first!)).toEqual({ stream: 'stdout', offset: 0, data: '/wA=', encoding: 'base64' });
  });

  test('run --detach prints the id; cancel cancels', async () => {
    expect(String((await run(['job', 'run', 'demo', '--id', 'j2', '--detach', '--', 'ls'])).stdout)).toBe(
      'j2\n',
    );
    expect(String((await run(['job', 'cancel', 'j2'])).stdout)).toBe('j2 is canceled\n');
  });
});

describe('the launcher', () => {
  const old = '/usr/bin/node';
  test.skipIf(!existsSync(old))(
    'runs from an older Node by handing over to the one npm installed',
    async () => {
      const cli = new Cli(
        ['exec', 'demo', '--shell', '--', 'cat; exit 5'],
        { MOBVIBE_URL: harness.url, MOBVIBE_API_KEY: API_KEY },
        { node: old },
      );
      running.push(cli);
      cli.child.stdin!.end('through');
      expect(await cli.ended).toMatchObject({ code: 5, stdout: Buffer.from('through') });
    },
  );
});
