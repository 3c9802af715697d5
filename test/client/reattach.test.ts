import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MobVibe, MobVibeError, type OutputChunk, type Session } from '../../client/index.ts';
import { API_KEY, Harness } from '../api/support/harness.ts';
import { Cutter } from './support/cutter.ts';

let harness: Harness;
let cutter: Cutter;
let mobvibe: MobVibe;
let session: Session;

beforeEach(async () => {
  harness = await Harness.start();
  cutter = await Cutter.start(Number(new URL(harness.url).port));
  mobvibe = new MobVibe({ url: cutter.url, apiKey: API_KEY });
  session = await mobvibe.sessions.create({ id: 'demo' });
});

afterEach(async () => {
  mobvibe.close();
  await cutter.close();
  await harness.close();
});

/** 3 MB of lines on both streams, and what they should be. */
const LINES = `for i in $(seq 1 20000); do echo "out $i ${'x'.repeat(60)}"; echo "err $i ${'y'.repeat(60)}" >&2; done; exit 7`;
const expected = (name: string, fill: string) =>
  Array.from({ length: 20_000 }, (_, i) => `${name} ${i + 1} ${fill.repeat(60)}\n`).join('');
const sha = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');

describe('a connection that breaks', () => {
  test('every 200 kB, costs nothing: output is complete and identical, the exit code true', async () => {
    cutter.cutEvery = 200_000;
    const outcome = await session.exec(LINES);
    expect(cutter.cuts).toBeGreaterThan(10);
    expect(outcome).toMatchObject({ exitCode: 7, truncated: false });
    expect(sha(outcome.stdout)).toBe(sha(expected('out', 'x')));
    expect(sha(outcome.stderr)).toBe(sha(expected('err', 'y')));
    expect(harness.fake.agent('demo').requests.filter((line) => line.startsWith('PUT /execs/'))).toHaveLength(
      1,
    );
  });

  test('while a handle is followed, its chunks go on where they were', async () => {
    const handle = await session.execs.start(LINES);
    cutter.cutEvery = 150_000;
    const offsets = { stdout: 0, stderr: 0 };
    const hash = createHash('sha256');
    for await (const chunk of handle.output()) {
      expect(chunk.offset).toBe(offsets[chunk.stream]);
      const { data } = chunk as Extract<OutputChunk, { data: Buffer }>;
      offsets[chunk.stream] += data.length;
      if (chunk.stream === 'stdout') hash.update(data);
    }
    expect(cutter.cuts).toBeGreaterThan(5);
    expect(hash.digest('hex')).toBe(sha(expected('out', 'x')));
  });

  test('between controller and agent is the same to the caller', async () => {
    const running = session.exec('for i in $(seq 1 30); do echo $i; sleep 0.02; done');
    await vi.waitFor(() => expect(harness.fake.agent('demo').openStreams).toBe(1));
    harness.fake.agent('demo').disconnect();
    expect((await running).stdout).toBe(Array.from({ length: 30 }, (_, i) => `${i + 1}\n`).join(''));
  });

  test('before the answer to a start, never makes the command run twice', async () => {
    cutter.cutNext('after-request');
    const outcome = await session.exec('echo ran >> ran.txt; cat ran.txt');
    expect(outcome).toMatchObject({ stdout: 'ran\n', exitCode: 0 });
  });

  test('before a start was received, starts it', async () => {
    cutter.cutNext('before-request');
    expect((await session.exec('echo once >> ran.txt; cat ran.txt')).stdout).toBe('once\n');
  });
});

describe('a machine that goes', () => {
  test('while a command runs: machine_lost, and no exit code', async () => {
    const began = Promise.withResolvers<Buffer>();
    const running = session.exec('echo hi; sleep 60', { onStdout: began.resolve });
    await began.promise;
    await harness.fake.stop('demo');
    expect(await running).toMatchObject({ stdout: 'hi\n', exitCode: null, result: { kind: 'machine_lost' } });
  });

  test('and is replaced: the same, and nothing runs in the new one', async () => {
    const began = Promise.withResolvers<Buffer>();
    const running = session.exec('echo hi; sleep 60', { onStdout: began.resolve });
    await began.promise;
    await harness.fake.stop('demo');
    await harness.fake.open('demo');
    expect((await running).result.kind).toBe('machine_lost');
    expect(harness.fake.agent('demo').requests).toEqual([]);
  });

  test.each([
    ['and is replaced', true],
    ['and is not replaced', false],
  ])(
    'while a start is under way %s: it is not started again, the caller is told that it was lost',
    async (_what, isReplaced) => {
      const replaced = Promise.withResolvers<void>();
      cutter.cutNext('after-request', async () => {
        await harness.fake.stop('demo');
        if (isReplaced) await harness.fake.open('demo');
        replaced.resolve();
      });
      const error = await session.exec('echo hi').catch((reason) => reason);
      expect(error).toBeInstanceOf(MobVibeError);
      expect(error).toMatchObject({ code: 'exec_lost', kind: 'unknown' });
      await replaced.promise;
      if (isReplaced) expect(harness.fake.agent('demo').requests.join()).not.toContain('PUT');
    },
  );
});

test('a start that never arrived runs in the sandbox that is there when it is sent again', async () => {
  cutter.cutNext('before-request', async () => {
    await harness.fake.stop('demo');
    await harness.fake.open('demo');
  });
  expect((await session.exec('echo once >> ran.txt; cat ran.txt')).stdout).toBe('once\n');
});

describe('an id that is used again after its sandbox was replaced', () => {
  const again = async () => {
    await harness.fake.stop('demo');
    await harness.fake.open('demo');
  };

  test('tells how it ended, with its output said to be missing', async () => {
    await session.exec('echo hi; exit 7', { id: 'mine' });
    await vi.waitFor(() => expect(harness.fake.execs.get('demo mine')?.end).not.toBeNull());
    await again();
    expect(await session.exec('echo hi; exit 7', { id: 'mine' })).toMatchObject({
      ...{ stdout: '', truncated: true, exitCode: 7, result: { kind: 'exited', code: 7 } },
    });
    expect((await (await session.execs.start('echo hi; exit 7', { id: 'mine' })).result()).result).toEqual({
      ...{ kind: 'exited', code: 7 },
    });
    expect((await (await session.execs.attach('mine')).info()).incarnation).toBe(1);
    await expect(session.exec('echo other', { id: 'mine' })).rejects.toMatchObject({ code: 'exec_conflict' });
    expect(harness.fake.agent('demo').requests.join()).not.toContain('PUT');
  });

  test('is lost where nobody saw its end', async () => {
    await session.execs.start('sleep 60', { id: 'mine' });
    await again();
    await expect(session.exec('sleep 60', { id: 'mine' })).rejects.toMatchObject({ code: 'exec_lost' });
    await expect(session.execs.start('sleep 60', { id: 'mine' })).rejects.toMatchObject({
      code: 'exec_lost',
    });
    expect(harness.fake.agent('demo').requests.join()).not.toContain('PUT');
  });
});

test('attach finds a running command by its id and reads from an offset', async () => {
  const handle = await session.execs.start('printf 0123456789; read line; echo " $line"', { stdin: true });
  const other = await (await mobvibe.sessions.get('demo')).execs.attach(handle.id);
  const output = other.output({ stdout: 7 });
  const first = (await output.next()).value as Extract<OutputChunk, { data: Buffer }>;
  expect(first).toMatchObject({ stream: 'stdout', offset: 7 });
  await handle.stdin.write('bye');
  // The second writer learns from the sandbox where the first one was.
  await other.stdin.write('bye\n');
  const rest: string[] = [String(first.data)];
  for await (const chunk of output) rest.push(String((chunk as typeof first).data));
  expect(rest.join('')).toBe('789 byebye\n');
  expect((await handle.result()).result).toEqual({ kind: 'exited', code: 0 });
});
