import { describe, expect, it } from 'vitest';
import { failureOf, hurriedTime, inOrder, scriptedServer, testClient } from './scripted-server.ts';

const NOT_YET = {
  status: 408,
  json: { error: 'deadline_exceeded: machine failed to reach desired state, started, currently created' },
};
const STARTED = { json: { ok: true, state: 'started', version: '01J' } };

describe('waitForState', () => {
  it('asks for the states and the version, for 60 s at most', async () => {
    const server = await scriptedServer(() => STARTED);
    const reply = await testClient(server.url).waitForState('cell', 'm1', ['started', 'failed'], {
      timeoutMs: 200_000,
      version: '01J',
    });
    expect(reply).toEqual({ ok: true, state: 'started', version: '01J' });
    expect(server.seen[0]?.path).toBe('/v1/apps/cell/machines/m1/wait');
    expect(Object.fromEntries(server.seen[0]?.query ?? [])).toEqual({
      state: 'started,failed',
      timeout: '60',
      version: '01J',
    });
  });

  it('asks for what is left of its time', async () => {
    const server = await scriptedServer(() => STARTED);
    await testClient(server.url).waitForState('cell', 'm1', 'started', { timeoutMs: 5_500 });
    expect(server.seen[0]?.query.get('timeout')).toBe('5');
    await testClient(server.url).waitForState('cell', 'm1', 'started', { timeoutMs: 300 });
    expect(server.seen[1]?.query.get('timeout')).toBe('1');
  });

  it('goes on after a 408', async () => {
    const server = await scriptedServer(
      inOrder(NOT_YET, NOT_YET, NOT_YET, NOT_YET, NOT_YET, NOT_YET, STARTED),
    );
    await expect(testClient(server.url).waitForState('cell', 'm1', 'started')).resolves.toMatchObject({
      state: 'started',
    });
    expect(server.seen).toHaveLength(7);
  });

  it('goes on through troubles of the platform', async () => {
    const trouble = { status: 503 };
    const server = await scriptedServer(
      inOrder(trouble, 'reset', trouble, trouble, 'cut', { status: 429 }, trouble, STARTED),
    );
    await expect(testClient(server.url).waitForState('cell', 'm1', 'started')).resolves.toMatchObject({
      state: 'started',
    });
  });

  it('ends with its time, and says what was seen last', async () => {
    const time = hurriedTime();
    const server = await scriptedServer(() => NOT_YET);
    const error = await failureOf(
      testClient(server.url, time).waitForState('cell', 'm1', 'started', { timeoutMs: 10_000 }),
    );
    expect(error).toMatchObject({ kind: 'platform', reason: 'wait_timeout', call: 'waitForState' });
    expect(error.detail).toContain('not started within 10000 ms');
    expect(error.detail).toContain('currently created');
    expect(time.clock()).toBeLessThanOrEqual(10_000);
  });

  it('ends with its time where Fly hangs', async () => {
    const server = await scriptedServer(() => 'hang');
    const client = testClient(server.url, { clock: () => performance.now() });
    const error = await failureOf(client.waitForState('cell', 'm1', 'started', { timeoutMs: 100 }));
    expect(error).toMatchObject({ kind: 'platform', reason: 'wait_timeout' });
  });

  it('ends at an abort', async () => {
    const abort = new AbortController();
    const server = await scriptedServer(() => {
      abort.abort();
      return 'hang';
    });
    const error = await failureOf(
      testClient(server.url).waitForState('cell', 'm1', 'started', { signal: abort.signal }),
    );
    expect(error).toMatchObject({ reason: 'aborted' });
  });

  const MISSING = { status: 404, json: { error: 'machine not found' } };
  const NO_APP = { status: 404, json: { error: 'Could not find App "cell"' } };

  it('takes a missing machine for destroyed', async () => {
    const server = await scriptedServer(() => MISSING);
    await expect(
      testClient(server.url).waitForState('cell', 'm1', ['stopped', 'destroyed']),
    ).resolves.toEqual({
      ok: true,
      state: 'destroyed',
    });
  });

  it('does not take a missing app for a destroyed machine', async () => {
    const server = await scriptedServer(() => NO_APP);
    const error = await failureOf(testClient(server.url).waitForState('cell', 'm1', 'destroyed'));
    expect(error).toMatchObject({ kind: 'not_found', reason: 'app_not_found' });
  });

  it('does not wait for a machine that is missing', async () => {
    const server = await scriptedServer(() => MISSING);
    const error = await failureOf(testClient(server.url).waitForState('cell', 'm1', 'started'));
    expect(error).toMatchObject({ kind: 'not_found' });
    expect(server.seen).toHaveLength(1);
  });

  it('waits for one that was just created and is not known everywhere yet', async () => {
    const server = await scriptedServer(inOrder(MISSING, MISSING, STARTED));
    await expect(
      testClient(server.url).waitForState('cell', 'm1', 'started', { justCreated: true }),
    ).resolves.toMatchObject({ state: 'started' });
  });

  it('takes an older reply without a state for the state asked for', async () => {
    const server = await scriptedServer(() => ({ json: { ok: true } }));
    await expect(testClient(server.url).waitForState('cell', 'm1', 'stopped')).resolves.toEqual({
      ok: true,
      state: 'stopped',
    });
  });

  it('refuses a state that can not be waited for', async () => {
    const client = testClient('http://127.0.0.1:1');
    const error = await failureOf(client.waitForState('cell', 'm1', 'created' as 'started'));
    expect(error).toMatchObject({ kind: 'mistake', field: 'state' });
    expect(error.detail).toContain('"created"');
  });
});
