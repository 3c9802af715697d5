import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { ExecEvent } from '../../controller/api/schemas.ts';
import { Harness } from './support/harness.ts';

let harness: Harness;
const EXECS = '/v1/sessions/demo/execs';
const NDJSON = { accept: 'application/x-ndjson' };
const RAN = { command: 'echo ran; echo oops >&2; exit 5' };

beforeEach(async () => {
  harness = await Harness.start();
  await harness.fake.open('demo');
});
afterEach(() => harness.close());

const put = (id: string, spec: object, headers: Record<string, string> = {}) =>
  harness.fetch(`${EXECS}/${id}`, { method: 'PUT', body: JSON.stringify(spec), headers });
async function events(response: Pick<Response, 'status' | 'text'>): Promise<ExecEvent[]> {
  expect(response.status).toBe(200);
  return (await response.text())
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
}
const reopen = async () => {
  await harness.fake.stop('demo');
  await harness.fake.open('demo');
};
const startsHere = () => harness.fake.agent('demo').requests.filter((line) => line.startsWith('PUT'));
const known = (id: string) => harness.fake.execs.get(`demo ${id}`);

/** Run to its end, which was seen to pass by, in a sandbox that has been replaced since. */
async function ranBefore(): Promise<void> {
  await (await put('e1', RAN, NDJSON)).text();
  await vi.waitFor(() => expect(known('e1')?.end).not.toBeNull());
  await reopen();
}

describe('an id of an earlier sandbox', () => {
  test('whose end was seen is answered with it, and runs nothing', async () => {
    await ranBefore();
    const answer = await put('e1', RAN);
    expect([answer.status, await answer.json()]).toMatchObject([
      200,
      { id: 'e1', incarnation: 1, state: 'ended', result: { kind: 'exited', code: 5 }, stdout_bytes: 4 },
    ]);
    expect(await events(await put('e1', RAN, NDJSON))).toMatchObject([
      { type: 'gap', stream: 'stdout', from: 0, to: 4 },
      { type: 'gap', stream: 'stderr', from: 0, to: 5 },
      { type: 'end', result: { kind: 'exited', code: 5 }, stdout_bytes: 4, stderr_bytes: 5 },
    ]);
    expect(await harness.json(`${EXECS}/e1`)).toMatchObject({ state: 'ended', incarnation: 1 });
    expect(startsHere()).toEqual([]);
  });

  test.each(['', '&incarnation=1'])('tells its output from an offset as a gap (%s)', async (more) => {
    await ranBefore();
    const lines = await events(await harness.fetch(`${EXECS}/e1/output?stdout=4&stderr=2${more}`));
    expect(lines).toMatchObject([
      { type: 'gap', stream: 'stderr', from: 2, to: 5 },
      { type: 'end', result: { kind: 'exited', code: 5 } },
    ]);
  });

  test('is answered while the session is stopped', async () => {
    await ranBefore();
    await harness.fake.stop('demo');
    expect(await (await put('e1', RAN)).json()).toMatchObject({ state: 'ended', result: { code: 5 } });
    expect(await harness.json(`${EXECS}/e1`)).toMatchObject({ state: 'ended' });
    expect(await (await put('e2', RAN)).json()).toMatchObject({ code: 'session_not_open' });
    expect(await harness.json(`${EXECS}/e2`)).toMatchObject({ code: 'session_not_open' });
  });

  test('whose end nobody saw is lost: it names the sandbox, and runs nothing', async () => {
    await put('e1', { command: 'sleep 60' });
    await reopen();
    const lost = { code: 'exec_lost', kind: 'unknown', detail: expect.stringContaining('sandbox 1 ') };
    const answer = await put('e1', { command: 'sleep 60' });
    expect([answer.status, await answer.json()]).toMatchObject([409, lost]);
    expect(await harness.json(`${EXECS}/e1`)).toMatchObject(lost);
    expect(await harness.json(`${EXECS}/e1/output`)).toMatchObject(lost);
    expect(startsHere()).toEqual([]);
  });

  test('with another command is a conflict, ended or not', async () => {
    await ranBefore();
    for (const other of [{ command: 'echo other' }, { ...RAN, env: { A: '1' } }, { ...RAN, cwd: 'x' }]) {
      const answer = await put('e1', other);
      expect([answer.status, (await answer.json()).code]).toEqual([409, 'exec_conflict']);
    }
    expect(startsHere()).toEqual([]);
  });
});

test('is written down before the agent hears of it; where it can not be, nothing is started', async () => {
  const other = await Harness.start((deps) => ({
    ...deps,
    execs: { ...deps.execs, register: () => Promise.reject(new Error('no database')) },
  }));
  try {
    await other.fake.open('demo');
    const init = { method: 'PUT', body: JSON.stringify(RAN) };
    expect((await other.fetch(`${EXECS}/e1`, init)).status).toBe(500);
    expect(other.fake.agent('demo').requests).toEqual([]);
  } finally {
    await other.close();
  }
});

test('a start that the agent refuses leaves the id to be used again, in a later sandbox with any command', async () => {
  expect(await (await put('e1', { command: ['/no/such'] })).json()).toMatchObject({
    code: 'command_not_found',
  });
  expect(known('e1')).toBeUndefined();
  await reopen();
  const again = await put('e1', RAN);
  expect([again.status, await again.json()]).toMatchObject([201, { incarnation: 2 }]);
});

test('a start whose answer broke off stays written down', async () => {
  vi.spyOn(harness.fake, 'linkAny').mockImplementationOnce(async (id) => {
    const { row, sandbox } = harness.fake.session(id);
    const link = await harness.fake.link(id);
    link.close('broken on the way');
    const request = async () => {
      throw new (await import('../../controller/errors.ts')).CodedError('agent_lost', 'broke');
    };
    return { link: { request }, session: row, sandbox: sandbox! };
  });
  expect(await (await put('e1', RAN)).json()).toMatchObject({ code: 'agent_lost' });
  expect(known('e1')).toMatchObject({ asked: 1, end: null });
  expect((await put('e1', RAN)).status).toBe(201);
});

test('ids that begin with "job-" are not for clients', async () => {
  const answer = await put('job-x-1', RAN);
  expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'invalid_id', field: 'exec_id' }]);
  expect(harness.fake.agent('demo').requests).toEqual([]);
});

test('while the session is being stopped what runs is followed and attached to; nothing new begins', async () => {
  const running = { command: 'read line; echo "$line"', stdin: true };
  await put('e1', running);
  const { row, agent } = harness.fake.session('demo');
  row.status = 'stopping';
  expect(await (await put('e2', RAN)).json()).toMatchObject({ code: 'session_stopping', kind: 'fault' });
  expect((await put('e1', running)).status).toBe(200);
  expect(await harness.json(`${EXECS}/e1`)).toMatchObject({ state: 'running', incarnation: 1 });
  const output = await harness.fetch(`${EXECS}/e1/output?incarnation=1`);
  row.status = 'ready';
  await harness.fetch(`${EXECS}/e1/stdin?offset=0&eof=1`, { method: 'POST', body: 'on and on\n' });
  expect(await text(output.body as never)).toContain('exited');
  expect(agent!.requests.filter((line) => line === 'PUT /execs/e2')).toEqual([]);
});

test('an end that is only looked at is kept, too', async () => {
  await put('e1', RAN);
  await vi.waitFor(async () => expect(await harness.json(`${EXECS}/e1`)).toMatchObject({ state: 'ended' }));
  await vi.waitFor(() => expect(known('e1')?.end).toMatchObject({ result: { kind: 'exited', code: 5 } }));
});
