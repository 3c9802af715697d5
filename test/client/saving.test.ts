import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { errorFromAnswer } from '../../client/errors.ts';
import { MobVibe, MobVibeError, type Session } from '../../client/index.ts';
import { pauseMs } from '../../client/retry.ts';
import { CodedError, type ErrorCode } from '../../controller/errors.ts';
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

test('a session is stopped and opened as is said; what is unsaved is told and copied out', async () => {
  expect(await session.unsaved()).toMatchObject({ files: 2, paths: ['a.txt', 'b.txt'] });
  expect(await text(await session.rescue())).toBe('tar');
  await session.stop({ graceMs: 5, discardUnsaved: true, waitMs: 1_000 });
  await session.open({ version: 2 });
  await session.stop();
  expect(harness.fake.asked).toEqual([
    { waitMs: 1_000, graceMs: 5, discardUnsaved: true },
    { version: 2 },
    {},
  ]);
});

describe('the end of a block', () => {
  const leave = async () => {
    await using _ = session;
  };

  test('fails with the save', async () => {
    harness.fake.stopFails = new CodedError('save_failed', '2 files are not saved');
    await expect(leave()).rejects.toMatchObject({ code: 'save_failed', detail: '2 files are not saved' });
  });

  test.each([
    ['stopping', null, 'save_failed'],
    ['failed', { code: 'save_failed', detail: 'given up' }, 'save_failed'],
    ['failed', { code: 'machine_lost', detail: 'gone' }, 'machine_lost'],
  ] as const)('fails where the session is %s then (%o)', async (status, error, code) => {
    harness.fake.stop = async () => ({ ...harness.fake.session('demo').row, status, error });
    await expect(leave()).rejects.toMatchObject({ code, kind: 'unknown' });
  });

  test.each(['stopped', 'ready', 'starting'] as const)('is well where it is %s', async (status) => {
    harness.fake.stop = async () => ({ ...harness.fake.session('demo').row, status });
    await leave();
  });
});

describe('when to come back', () => {
  /** Stops fail so often with this, then work. */
  function refuse(times: number, code: ErrorCode, retryAfterMs: number): () => number {
    let left = times;
    Object.defineProperty(harness.fake, 'stopFails', {
      get: () => (left-- > 0 ? new CodedError(code, 'later', { retryAfterMs }) : null),
    });
    return () => times - left;
  }

  test('is waited for: more often than other failures, as long as the call may take', async () => {
    const asked = refuse(8, 'no_capacity', 20);
    const began = performance.now();
    expect((await session.stop()).status).toBe('stopped');
    expect(asked()).toBe(9);
    expect(performance.now() - began).toBeGreaterThanOrEqual(160);
  });

  test('is no reason to go on for ever where the sandbox does not answer', async () => {
    const asked = refuse(100, 'agent_unresponsive', 1);
    await expect(session.stop()).rejects.toMatchObject({ code: 'agent_unresponsive', retryAfterMs: 1 });
    expect(asked()).toBe(5);
  });

  test('that is after the deadline is not waited for: the refusal is told at once', async () => {
    const asked = refuse(100, 'too_many_starts', 3_600_000);
    await expect(session.stop({ timeoutMs: 60_000 })).rejects.toMatchObject({ code: 'too_many_starts' });
    expect(asked()).toBe(1);
  });

  test('is read from the body, else from the header', () => {
    const problem = new CodedError('no_capacity', 'x', { retryAfterMs: 1_200 }).toProblem();
    const told = errorFromAnswer(503, JSON.stringify(problem), '9');
    expect([told.retryAfterMs, told.toJSON().retry_after_ms]).toEqual([1_200, 1_200]);
    const bare = JSON.stringify(new CodedError('no_capacity', 'x').toProblem());
    expect(errorFromAnswer(503, bare, '9').retryAfterMs).toBe(9_000);
    expect(errorFromAnswer(503, bare, 'Wed, 21 Oct 2026 07:28:00 GMT').retryAfterMs).toBeUndefined();
    expect(errorFromAnswer(503, bare).retryAfterMs).toBeUndefined();
  });

  test('is never the same moment for many', () => {
    const error = new MobVibeError('no_capacity', 'fault', '', { retryAfterMs: 1_000 });
    expect([pauseMs(error, 1, () => 0), pauseMs(error, 1, () => 1)]).toEqual([1_000, 1_100]);
  });
});
