import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it, test } from 'vitest';
import type { ExecInfo } from '../../controller/agents/wire.ts';
import { CodedError, type ErrorCode } from '../../controller/errors.ts';
import type { ExecEnd } from '../../controller/sessions/exec.ts';
import { recordEnds } from '../../controller/sessions/exec-ends.ts';
import {
  commandKey,
  ExecRegistry,
  provesNoStart,
  whoAnswers,
} from '../../controller/sessions/exec-registry.ts';
import type { ExecRow, NewExec, RegisteredExec } from '../../controller/store/execs.ts';
import { newKey } from './key.ts';
import { World } from './world.ts';

const END: ExecEnd = {
  type: 'end',
  result: { kind: 'exited', code: 3 },
  stdout_bytes: 1,
  stderr_bytes: 2,
  duration_ms: 4,
};
const ROW: ExecRow = {
  ...{ session_id: 's', id: 'e', incarnation: 2, command_key: 'k', asked: 1, actor: 'a' },
  ...{ started_at: '2026-11-28T10:00:00Z', ended_at: null, end: null },
};
const code = (act: () => unknown): string => {
  try {
    return String(act());
  } catch (error) {
    return (error as CodedError).code;
  }
};

describe('who answers for an exec', () => {
  test.each([
    ['of the present sandbox', null, 2, 'agent'],
    ['of an earlier one, whose end was seen', END, 3, 'row'],
    ['of an earlier one, whose end was not seen', null, 3, 'exec_lost'],
    ['whose end was seen, while there is no sandbox', END, null, 'row'],
    ['whose end was not seen, while there is no sandbox', null, null, 'exec_lost'],
    ['of a later sandbox than is connected here', null, 1, 'fenced'],
  ])('%s', (_what, end, present, expected) => {
    expect(code(() => whoAnswers({ ...ROW, end }, 'k', present))).toBe(expected);
    expect(code(() => whoAnswers({ ...ROW, end }, null, present))).toBe(expected);
    expect(code(() => whoAnswers({ ...ROW, end }, 'other', present))).toBe('exec_conflict');
  });
});

test('commands are the same whatever the order of their fields, and only then', () => {
  const one = { command: ['a', 'b'], env: { A: '1', B: '2' }, timeout_ms: 5 };
  const key = commandKey(one);
  expect(
    commandKey({ timeout_ms: 5, env: { B: '2', A: '1' }, cwd: '', stdin: false, command: ['a', 'b'] }),
  ).toBe(key);
  for (const other of [
    { ...one, command: ['a b'] },
    { ...one, command: 'a b' },
    { ...one, cwd: 'x' },
    { ...one, env: { A: '1' } },
    { ...one, timeout_ms: 6 },
    { ...one, stdin: true },
  ])
    expect(commandKey(other)).not.toBe(key);
  expect(key).toMatch(/^[0-9a-f]{64}$/);
});

test.each([
  ['command_not_found', true],
  ['too_many_processes', true],
  ['session_stopping', true],
  ['agent_unreachable', true],
  ['agent_lost', false],
  ['exec_conflict', false],
  ['exec_ended', false],
  ['internal', false],
] as const)('%s proves that nothing was started: %s', (name, proves) => {
  expect(provesNoStart(new CodedError(name, ''))).toBe(proves);
  expect(provesNoStart(new Error('the client has left'))).toBe(false);
});

describe('the registry', () => {
  const exec = (id: string): NewExec => ({ sessionId: 's', id, incarnation: 1, key: 'k', actor: 'a' });
  const log = pino({ level: 'silent' });
  function registry(answer: (exec: NewExec) => RegisteredExec | CodedError) {
    const calls: string[][] = [];
    const gates: (() => void)[] = [];
    const ends: [string, string[]][] = [];
    let away = 0;
    const store = {
      async registerExecs(all: NewExec[]) {
        calls.push(all.map(({ id }) => id));
        await new Promise<void>((resolve) => gates.push(resolve));
        return all.map(answer);
      },
      withdrawExec: async () => true,
      findExec: async () => null,
      async recordExecEnds(session: string, all: { id: string }[]) {
        if (away-- > 0) throw new CodedError('database_unavailable', 'away');
        ends.push([session, all.map(({ id }) => id)]);
        return all.length;
      },
    };
    const open = () => gates.splice(0).forEach((gate) => void gate());
    return {
      execs: new ExecRegistry({ store, log }),
      calls,
      open,
      ends,
      goAway: (times: number) => (away = times),
    };
  }

  it('sends what comes while it waits in one call, and gives each its own answer', async () => {
    const { execs, calls, open } = registry((one) =>
      one.id === 'c'
        ? new CodedError('session_not_open', one.id)
        : { created: true, exec: { ...ROW, id: one.id } },
    );
    const all = Promise.allSettled(['a', 'b', 'c', 'd', 'e'].map((id) => execs.register(exec(id))));
    expect(calls).toEqual([['a'], ['b']]);
    while (calls.length < 3) {
      open();
      await new Promise(setImmediate);
    }
    open();
    expect(calls).toEqual([['a'], ['b'], ['c', 'd', 'e']]);
    expect(
      (await all).map((one) => (one.status === 'fulfilled' ? one.value.exec.id : one.reason.code)),
    ).toEqual([...['a', 'b', 'session_not_open', 'd', 'e']]);
  });

  it('writes ends down together, also when the database was away, and waits for it no longer than is said', async () => {
    const { execs, ends, goAway } = registry(() => ({ created: true, exec: ROW }));
    goAway(1);
    for (const id of ['a', 'b']) execs.ended('s', id, END);
    execs.ended('t', 'c', END);
    await execs.flush(1);
    expect(ends).toEqual([]);
    await execs.flush(60_000);
    expect(ends).toEqual([
      ['s', ['a', 'b']],
      ['t', ['c']],
    ]);
  });

  it('keeps no more ends than it may: the oldest go', async () => {
    const { execs, ends } = registry(() => ({ created: true, exec: ROW }));
    for (let n = 0; n < 10_003; n++) execs.ended('s', `e${n}`, END);
    await execs.flush(60_000);
    const kept = ends.flatMap(([, ids]) => ids);
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([10_000, 'e3', 'e10002']);
  });
});

describe('with a database', () => {
  let world: World;
  beforeAll(async () => {
    world = await World.start();
  });
  afterEach(() => world.closeAll());
  afterAll(() => world.end());

  async function open(id: string) {
    const controller = await world.controller(await world.app());
    await controller.manager.createSandbox({ sessionId: id });
    const headers = {
      authorization: `Bearer ${await newKey(world.store)}`,
      'content-type': 'application/json',
      accept: 'application/x-ndjson',
    };
    const put = async (exec: string, command: string) => {
      const path = `${controller.url}/v1/sessions/${id}/execs/${exec}`;
      const answer = await fetch(path, { method: 'PUT', headers, body: JSON.stringify({ command }) });
      return answer.text();
    };
    const reopen = async () => {
      await controller.manager.destroySandbox(id);
      await controller.lifecycle.startSandbox(id);
    };
    return { controller, put, reopen };
  }

  it('an id runs once in the life of a session', async () => {
    const { put, reopen } = await open('life');
    expect(await put('seen', 'echo hi')).toContain('"exited"');
    await world.until(async () => (await world.store.findExec('life', 'seen'))?.end !== null);
    await reopen();
    const again = await put('seen', 'echo hi');
    expect(again).toContain('"exited"');
    expect(again).not.toContain('"start"');
    expect(JSON.parse(await put('seen', 'echo other'))).toMatchObject({ code: 'exec_conflict' });
    expect(world.running('s-life-2').inside.execs.size).toBe(0);
  });

  it('what the agent knows at a stop is written down; jobs and what still runs are not', async () => {
    const { controller, put } = await open('bulk');
    for (const id of ['a', 'b']) await put(id, 'echo hi');
    const info = (id: string, more: object = {}): ExecInfo => ({
      ...{ id, state: 'ended', pid: 1, started_at: 10, ended_at: 15, stdout_bytes: 1, stderr_bytes: 0 },
      ...{ result: { kind: 'signaled', signal: 'SIGTERM', by: 'stop' } },
      ...more,
    });
    await world.store.registerExec({ sessionId: 'bulk', id: 'c', incarnation: 1, key: 'k', actor: 'a' });
    await world.until(async () => (await world.store.findExec('bulk', 'b'))?.end !== null);
    const infos = [info('c'), info('b'), info('job-1-1'), info('unknown'), info('d', { state: 'running' })];
    const request = async () => ({ expect: async () => infos, body: new PassThrough() });
    expect(await recordEnds(controller.store, { request } as never, 'bulk')).toBe(1);
    expect(await world.store.findExec('bulk', 'c')).toMatchObject({
      end: { type: 'end', result: { kind: 'signaled', by: 'stop' }, duration_ms: 5 },
    });
    expect((await world.store.findExec('bulk', 'b'))?.end?.result).toEqual({ kind: 'exited', code: 0 });
  });

  it('a refusal of one leaves the others of the same call', async () => {
    await open('some');
    const one = (sessionId: string) => ({ sessionId, id: 'e', incarnation: 1, key: 'k', actor: 'a' });
    const [first, second] = await world.store.registerExecs([one('nobody'), one('some')]);
    expect((first as CodedError).code).toBe('session_not_found' satisfies ErrorCode);
    expect(second).toMatchObject({ created: true });
    expect(await world.store.withdrawExec(one('some'))).toBe(true);
    expect(await world.store.findExec('some', 'e')).toBeNull();
  });
});
