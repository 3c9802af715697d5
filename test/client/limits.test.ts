import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { errorFromAnswer } from '../../client/errors.ts';
import { Files } from '../../client/files.ts';
import { MobVibe, MobVibeError, type Session } from '../../client/index.ts';
import { backoffMs, isPassing } from '../../client/retry.ts';
import { Transport } from '../../client/transport.ts';
import { CodedError, ERRORS, type ErrorCode } from '../../controller/errors.ts';
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

const failure = async (work: Promise<unknown>): Promise<MobVibeError> => {
  const error = await work.then(
    () => expect.unreachable('it should have failed'),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(MobVibeError);
  return error as MobVibeError;
};

async function drain(stream: Readable): Promise<void> {
  for await (const _ of stream);
}

describe('settings', () => {
  test.each([
    [{ apiKey: API_KEY }, /url is missing/],
    [{ url: 'localhost:1', apiKey: API_KEY }, /must begin with http/],
    [{ url: 'http://x' }, /apiKey is missing/],
    [{ url: 'http://x', apiKey: 'sk_hunter2' }, /must begin with mvk_/],
  ])('%o is a mistake that names the option', (options, message) => {
    vi.stubEnv('MOBVIBE_URL', '').stubEnv('MOBVIBE_API_KEY', '');
    try {
      expect(() => new MobVibe(options)).toThrow(message);
      expect(() => new MobVibe(options)).not.toThrow(/hunter2/);
    } finally {
      vi.unstubAllEnvs();
    }
  });

  test('are taken from the environment', async () => {
    vi.stubEnv('MOBVIBE_URL', harness.url).stubEnv('MOBVIBE_API_KEY', API_KEY);
    try {
      using other = new MobVibe();
      expect((await other.sessions.get('demo')).info.status).toBe('ready');
    } finally {
      vi.unstubAllEnvs();
    }
  });
});

describe('errors', () => {
  test('of the controller come with code, kind, status, detail and field', async () => {
    expect(await failure(mobvibe.sessions.get('nobody'))).toMatchObject({
      code: 'session_not_found',
      kind: 'mistake',
      status: 404,
    });
    expect(await failure(mobvibe.sessions.create({ region: 'NOWHERE' }))).toMatchObject({
      code: 'invalid_request',
      field: 'region',
    });
    expect(await failure(session.exec(''))).toMatchObject({ code: 'invalid_command', field: 'command' });
    expect(await failure(session.files.read('../x'))).toMatchObject({ code: 'path_outside', status: 403 });
  });

  test('every code of the table survives the way', () => {
    for (const code of Object.keys(ERRORS) as ErrorCode[]) {
      const problem = new CodedError(code, 'why', { field: 'f' }).toProblem();
      const error = errorFromAnswer(problem.status, JSON.stringify(problem));
      expect(error).toMatchObject({
        code,
        kind: problem.kind,
        status: problem.status,
        detail: 'why',
        field: 'f',
      });
    }
  });

  test('an answer of something else is not taken for one of ours', () => {
    expect(errorFromAnswer(502, '<html>')).toMatchObject({ code: 'invalid_answer', kind: 'unknown' });
    expect(errorFromAnswer(503, '')).toMatchObject({ code: 'controller_unreachable', kind: 'fault' });
  });

  test('no controller: controller_unreachable, soon, for exec as well', async () => {
    using nobody = new MobVibe({ url: 'http://127.0.0.1:1', apiKey: API_KEY });
    expect(await failure(nobody.sessions.list())).toMatchObject({
      code: 'controller_unreachable',
      kind: 'fault',
    });
  });
});

describe('deadlines and aborts', () => {
  test('a server that never answers is left at the deadline', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await once(silent, 'listening');
    using other = new MobVibe({
      url: `http://127.0.0.1:${(silent.address() as AddressInfo).port}`,
      apiKey: API_KEY,
      timeoutMs: 100,
    });
    expect(await failure(other.sessions.list())).toMatchObject({
      code: 'deadline_exceeded',
      kind: 'unknown',
    });
    silent.closeAllConnections();
    silent.close();
  });

  test.each([
    ['a file', (files: Files) => files.readStream('f', { timeoutMs: 200 }).then(drain)],
    ['a list', (files: Files) => files.list('.', { timeoutMs: 200 })],
  ])('a server that stops in the middle of %s is left at the deadline', async (_what, read) => {
    const stalled = createServer(
      (_request, response) => void response.writeHead(200).write('{"path":"a"}\n'),
    );
    stalled.listen(0, '127.0.0.1');
    await once(stalled, 'listening');
    const { port } = stalled.address() as AddressInfo;
    const files = new Files(new Transport(new URL(`http://127.0.0.1:${port}`), API_KEY, 60_000), 'demo');
    expect(await failure(read(files))).toMatchObject({ code: 'deadline_exceeded' });
    stalled.closeAllConnections();
    stalled.close();
  });

  test('a file whose connection breaks fails as a broken connection', async () => {
    await session.files.write('big', Buffer.alloc(20_000_000));
    const content = await session.files.readStream('big');
    content.once('data', () => harness.cutClients());
    expect(await failure(drain(content))).toMatchObject({ code: 'connection_lost', kind: 'unknown' });
  });

  test.each([0, -1, Number.NaN])('a deadline of %d is a mistake', async (timeoutMs) => {
    expect(await failure(mobvibe.sessions.list({ timeoutMs }))).toMatchObject({
      code: 'invalid_option',
      field: 'timeoutMs',
    });
  });

  test('aborting an exec ends its processes', async () => {
    const controller = new AbortController();
    const running = session.exec('echo $$; sleep 60', {
      signal: controller.signal,
      onStdout: () => controller.abort(),
    });
    expect(await failure(running)).toMatchObject({ code: 'aborted' });
    await vi.waitFor(async () => {
      const [exec] = await session.execs.list();
      expect(exec?.result).toEqual({ kind: 'signaled', signal: 'SIGKILL' });
    });
  });

  test('a signal that was raised before: nothing is sent', async () => {
    const before = harness.fake.agent('demo').requests.length;
    expect(await failure(session.exec('true', { signal: AbortSignal.abort() }))).toMatchObject({
      code: 'aborted',
    });
    expect(
      harness.fake
        .agent('demo')
        .requests.slice(before)
        .filter((line) => line.startsWith('PUT')),
    ).toEqual([]);
  });

  test('giving up following leaves the command alone', async () => {
    const handle = await session.execs.start('sleep 60');
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 30);
    expect(await failure(handle.result({ signal: controller.signal }))).toMatchObject({ code: 'aborted' });
    expect((await handle.info()).state).toBe('running');
    await handle.signal('SIGTERM');
    expect((await handle.result()).result).toEqual({ kind: 'signaled', signal: 'SIGTERM' });
    expect(await failure(handle.signal('SIGTERM'))).toMatchObject({ code: 'exec_ended' });
  });

  test('the end of the block stops the session', async () => {
    {
      await using other = await mobvibe.sessions.create({ id: 'other' });
      expect(other.info.status).toBe('ready');
    }
    expect((await mobvibe.sessions.get('other')).info.status).toBe('stopped');
  });
});

describe('retries', () => {
  test.each([
    ['controller_unreachable', true],
    ['connection_lost', true],
    ['agent_unreachable', true],
    ['agent_lost', true],
    ['database_unavailable', true],
    ['database_lost', true],
    ['shutting_down', true],
    ['session_not_found', false],
    ['session_start_failed', false],
    ['machine_lost', false],
    ['fenced', false],
    ['disk_full', false],
    ['save_failed', false],
    ['internal', false],
    ['invalid_answer', false],
    ['deadline_exceeded', false],
    ['aborted', false],
    ['exec_lost', false],
    ['session_stopping', false],
    ['agent_unresponsive', true],
    ['no_capacity', true],
    ['image_failing', true],
    ['too_many_starts', true],
  ] as const)('%s may pass: %s', (code, passing) => {
    expect(isPassing(new MobVibeError(code, 'unknown', ''))).toBe(passing);
  });

  test('pauses grow, are random and have a limit', () => {
    expect(backoffMs(1, () => 0)).toBe(0);
    expect(backoffMs(1, () => 1)).toBe(100);
    expect(backoffMs(2, () => 1)).toBe(200);
    expect(backoffMs(60, () => 1)).toBe(3_000);
  });

  test('a request that may be repeated is; a stream and a move are not', async () => {
    const requests = () => harness.fake.logLines.filter((line) => line.includes('agent_unreachable')).length;
    harness.fake.unreachable = true;
    setTimeout(() => {
      harness.fake.unreachable = false;
    }, 60);
    await session.files.write('a.txt', 'again');
    expect(requests()).toBeGreaterThan(0);
    expect(await session.files.readText('a.txt')).toBe('again');

    harness.fake.unreachable = true;
    const before = requests();
    expect((await failure(session.files.move('a.txt', 'b.txt'))).code).toBe('agent_unreachable');
    expect((await failure(session.files.write('c', Readable.from([Buffer.from('x')])))).code).toBe(
      'agent_unreachable',
    );
    expect(requests()).toBe(before + 2);
  });
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

describe('big files', () => {
  const SIZE = 160 * 1024 * 1024;
  const LOOK = 16 * 1024 * 1024;
  const piece = randomBytes(1024 * 1024);

  test('are streamed both ways in bounded memory', async () => {
    const live = () => {
      collectGarbage();
      return process.memoryUsage().arrayBuffers;
    };
    const before = live();
    let peak = 0;
    let seen = 0;
    // Looks every 16 MiB, at what is still in use.
    const watch = (bytes: number) => {
      if (Math.floor(seen / LOOK) !== Math.floor((seen + bytes) / LOOK))
        peak = Math.max(peak, live() - before);
      seen += bytes;
    };
    const sent = createHash('sha256');
    const pieces = function* () {
      for (let i = 0; i < SIZE / piece.length; i++) {
        watch(piece.length);
        sent.update(piece);
        yield piece;
      }
    };
    const source = Readable.from(pieces(), { objectMode: false, highWaterMark: piece.length });
    const stat = await session.files.write('big.bin', source, { mode: 0o600 });
    expect(stat).toMatchObject({ size: SIZE, mode: 0o600 });
    const received = createHash('sha256');
    for await (const data of await session.files.readStream('big.bin')) {
      received.update(data);
      watch(data.length);
    }
    expect(received.digest('hex')).toBe(sent.digest('hex'));
    // Client, API and agent are all in this process, each with its buffers and the tunnel with its window; the file is not.
    expect(peak).toBeLessThan(SIZE / 2);
  });

  test('a source that fails gives its own error, and leaves what was there', async () => {
    await session.files.write('a.txt', 'old');
    const broken = new Readable({
      read() {
        this.push('half');
        this.destroy(new Error('disk on fire'));
      },
    });
    await expect(session.files.write('a.txt', broken)).rejects.toThrow('disk on fire');
    expect(await session.files.readText('a.txt')).toBe('old');
  });
});
