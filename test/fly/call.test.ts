import { describe, expect, it } from 'vitest';
import type { CallEvent } from '../../fly/index.ts';
import { failureOf, hurriedTime, inOrder, scriptedServer, testClient } from './scripted-server.ts';

const MACHINE = { id: 'm1', state: 'started' };
const UNAVAILABLE = { status: 503, json: { error: 'unavailable' } };

describe('a read', () => {
  it.each([
    ['503', UNAVAILABLE],
    ['a reset', 'reset'],
    ['a body cut short', 'cut'],
    ['a page where JSON should be', { text: '<html>' }],
    ['429', { status: 429 }],
  ] as const)('is repeated after %s', async (_what, failure) => {
    const server = await scriptedServer(inOrder(failure, { json: MACHINE }));
    await expect(testClient(server.url).getMachine('cell', 'm1')).resolves.toEqual(MACHINE);
    expect(server.seen).toHaveLength(2);
  });

  it('gives up after four tries', async () => {
    const server = await scriptedServer(() => UNAVAILABLE);
    const error = await failureOf(testClient(server.url).getMachine('cell', 'm1'));
    expect(error).toMatchObject({ kind: 'platform', status: 503, requestId: 'req-4', detail: 'unavailable' });
    expect(error.message).toBe('getMachine cell/m1: unavailable (HTTP 503)');
    expect(server.seen).toHaveLength(4);
  });

  it('is not repeated after a clear answer', async () => {
    const server = await scriptedServer(() => ({ status: 404, json: { error: 'machine not found' } }));
    expect(await failureOf(testClient(server.url).getMachine('cell', 'm1'))).toMatchObject({
      kind: 'not_found',
    });
    expect(server.seen).toHaveLength(1);
  });
});

describe('a call that may be repeated', () => {
  it('is repeated after an unknown outcome', async () => {
    const server = await scriptedServer(
      inOrder('reset', UNAVAILABLE, { json: { previous_state: 'stopped' } }),
    );
    await expect(testClient(server.url).startMachine('cell', 'm1')).resolves.toEqual({
      previous_state: 'stopped',
    });
    expect(server.seen).toHaveLength(3);
  });

  it('waits out a state that passes', async () => {
    const busy = {
      status: 412,
      json: { error: 'failed_precondition: machine still active, refusing to start' },
    };
    const server = await scriptedServer(inOrder(busy, busy, { json: { previous_state: 'stopped' } }));
    await testClient(server.url).startMachine('cell', 'm1');
    expect(server.seen).toHaveLength(3);
  });
});

describe('a call that must not be repeated', () => {
  it.each([
    ['502', { status: 502 }],
    ['408', { status: 408, json: { error: 'deadline_exceeded' } }],
    ['a reset', 'reset'],
    ['a body cut short', 'cut'],
  ] as const)('is sent once when %s leaves it in doubt', async (_what, failure) => {
    const server = await scriptedServer(() => failure);
    const error = await failureOf(testClient(server.url).exec('cell', 'm1', { command: ['true'] }));
    expect(error.kind).toBe('unknown_outcome');
    expect(server.seen).toHaveLength(1);
  });

  it('is sent again after 429, not before a second has passed nor before Retry-After', async () => {
    const time = hurriedTime();
    const server = await scriptedServer(
      inOrder({ status: 429 }, { status: 429, headers: { 'retry-after': '7' } }, { json: {} }),
    );
    await testClient(server.url, time).exec('cell', 'm1', { command: ['true'] });
    const pauses = time.slept.filter((ms) => ms >= 1_000);
    expect(pauses[0]).toBeGreaterThanOrEqual(1_000);
    expect(pauses.some((ms) => ms >= 7_000)).toBe(true);
    expect(server.seen).toHaveLength(3);
  });

  it('gives up at once when Retry-After is beyond its time', async () => {
    const server = await scriptedServer(() => ({ status: 429, headers: { 'retry-after': '3600' } }));
    const error = await failureOf(testClient(server.url).getApp('cell'));
    expect(error).toMatchObject({ kind: 'rate', status: 429, retryAfterMs: 3_600_000 });
    expect(server.seen).toHaveLength(1);
  });
});

describe('a refusal for the rate', () => {
  it('holds back the calls that come after it', async () => {
    const events: CallEvent[] = [];
    const server = await scriptedServer(
      inOrder({ status: 429, headers: { 'retry-after': '3600' } }, { json: MACHINE }),
    );
    const client = testClient(server.url, { onCall: (event) => events.push(event) });
    await failureOf(client.getMachine('cell', 'm1'));
    await client.getMachine('cell', 'm1');
    await client.getMachine('cell', 'm2');
    expect(events.map(({ queuedMs }) => queuedMs)).toEqual([0, 211, 0]);
  });
});

describe('time and abort', () => {
  it('ends a call that hangs', async () => {
    const server = await scriptedServer(() => 'hang');
    const client = testClient(server.url, { clock: () => performance.now() });
    const error = await failureOf(client.getMachine('cell', 'm1', { timeoutMs: 50 }));
    expect(error).toMatchObject({ kind: 'platform', reason: 'timeout' });
  });

  it('ends a call under way at an abort', async () => {
    const abort = new AbortController();
    const server = await scriptedServer(() => {
      abort.abort();
      return 'hang';
    });
    const error = await failureOf(testClient(server.url).getMachine('cell', 'm1', { signal: abort.signal }));
    expect(error).toMatchObject({ kind: 'platform', reason: 'aborted' });
  });

  it('sends nothing for a signal that is aborted already', async () => {
    const server = await scriptedServer(() => ({ json: MACHINE }));
    const call = testClient(server.url).signalMachine('cell', 'm1', 'SIGTERM', {
      signal: AbortSignal.abort(),
    });
    expect(await failureOf(call)).toMatchObject({ kind: 'platform', reason: 'aborted' });
    expect(server.seen).toEqual([]);
  });

  it('keeps the doubt when the abort comes between two tries', async () => {
    const abort = new AbortController();
    const time = hurriedTime();
    const sleep = async (): Promise<void> => {
      abort.abort();
      throw abort.signal.reason;
    };
    const server = await scriptedServer(() => 'reset');
    const client = testClient(server.url, { clock: time.clock, sleep });
    const error = await failureOf(client.stopMachine('cell', 'm1', { signal: abort.signal }));
    expect(error).toMatchObject({ kind: 'unknown_outcome', reason: 'aborted' });
    expect(server.seen).toHaveLength(1);
  });

  it('sends nothing when its turn comes after its time', async () => {
    const server = await scriptedServer(() => ({ json: {} }));
    const client = testClient(server.url, { clock: () => 0 });
    for (let n = 0; n < 3; n++) await client.suspendMachine('cell', 'm1');
    const error = await failureOf(client.suspendMachine('cell', 'm1', { timeoutMs: 1_000 }));
    expect(error).toMatchObject({ kind: 'rate', status: undefined, retryAfterMs: 1053 });
    expect(server.seen).toHaveLength(3);
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('refuses a timeout of %s', async (timeoutMs) => {
    const error = await failureOf(testClient('http://127.0.0.1:1').getApp('cell', { timeoutMs }));
    expect(error).toMatchObject({ kind: 'mistake', field: 'timeoutMs' });
  });
});

describe('onCall', () => {
  it('is told of every try', async () => {
    const events: CallEvent[] = [];
    const server = await scriptedServer(inOrder('reset', UNAVAILABLE, { json: MACHINE }));
    await testClient(server.url, { onCall: (event) => events.push(event) }).getMachine('cell', 'm1');
    expect(events).toMatchObject([
      { call: 'getMachine', target: 'cell/m1', attempt: 1, status: undefined, error: 'platform' },
      { attempt: 2, status: 503, error: 'platform', requestId: 'req-2' },
      { attempt: 3, status: 200, error: undefined, requestId: 'req-3' },
    ]);
  });
});
