import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MobVibe, type Session } from '../../client/index.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';

let harness: Harness;
let mobvibe: MobVibe;
let session: Session;

beforeEach(async () => {
  harness = await Harness.start();
  mobvibe = new MobVibe({ url: harness.url, apiKey: API_KEY });
  session = await mobvibe.sessions.create({ id: 'demo' });
});

afterEach(async () => {
  mobvibe.close();
  await harness.close();
});

describe('exec', () => {
  test('gives output, exit code and result of a command that exits', async () => {
    const outcome = await session.exec('echo out; echo err >&2; exit 3');
    expect(outcome).toMatchObject({
      stdout: 'out\n',
      stderr: 'err\n',
      exitCode: 3,
      result: { kind: 'exited', code: 3 },
      truncated: false,
    });
  });

  test('runs a list as it stands, in the given directory and environment', async () => {
    await session.files.mkdir('sub dir');
    const { stdout } = await session.exec(['sh', '-c', 'pwd; echo "$WHO"'], {
      cwd: 'sub dir',
      env: { WHO: 'it is "me"' },
    });
    expect(stdout).toMatch(/sub dir\nit is "me"\n$/);
  });

  test.each([
    ['a string', 'grüße'],
    ['bytes', Buffer.from('grüße')],
    ['a stream', Readable.from([Buffer.from('grü'), Buffer.from('ße')])],
  ])('feeds stdin from %s', async (_what, stdin) => {
    expect((await session.exec('cat', { stdin })).stdout).toBe('grüße');
  });

  test('does not mind a command that ends before it has read its stdin', async () => {
    const outcome = await session.exec('exit 4', { stdin: Buffer.alloc(5_000_000) });
    expect(outcome.exitCode).toBe(4);
  });

  test('ends the command when its stdin can not be read to the end, and fails with the reason', async () => {
    const half = Readable.from(
      (async function* () {
        yield Buffer.from('half');
        throw new Error('disk on fire');
      })(),
    );
    await expect(session.exec('cat', { id: 'half', stdin: half })).rejects.toThrow('disk on fire');
    const handle = await session.execs.attach('half');
    expect((await handle.result()).result).toEqual({ kind: 'signaled', signal: 'SIGKILL' });
  });

  test('keeps as much output as asked for and says that there was more', async () => {
    const seen: number[] = [];
    const outcome = await session.exec('head -c 300000 /dev/zero', {
      maxOutputBytes: 10,
      onStdout: (data) => seen.push(data.length),
    });
    expect(outcome).toMatchObject({ truncated: true, exitCode: 0 });
    expect(outcome.stdout).toHaveLength(10);
    expect(seen.reduce((a, b) => a + b, 0)).toBe(300_000);
  });

  test('a command past its deadline is timed_out and has no exit code', async () => {
    const outcome = await session.exec('sleep 60', { timeoutMs: 50 });
    expect(outcome).toMatchObject({ exitCode: null, result: { kind: 'timed_out', timeout_ms: 50 } });
  });

  test('a command that was killed is signaled and has no exit code', async () => {
    const outcome = await session.exec('kill -9 $$');
    expect(outcome).toMatchObject({ exitCode: null, result: { kind: 'signaled', signal: 'SIGKILL' } });
  });
});

test('one after the other, commands use connections again', async () => {
  let connections = 0;
  harness.app.server.on('connection', () => {
    connections++;
  });
  for (let i = 0; i < 10; i++) await session.exec(['true']);
  // A second one, as a command may begin before the answer to the last one has quite ended.
  expect(connections).toBeLessThanOrEqual(1);
});
