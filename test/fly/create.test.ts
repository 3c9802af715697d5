import { describe, expect, it } from 'vitest';
import { flyError, madeNothing } from '../../fly/index.ts';
import {
  deafServer,
  failureOf,
  type Play,
  type Seen,
  scriptedServer,
  testClient,
} from './scripted-server.ts';

const REQUEST = { name: 's-one-1', region: 'sjc', config: { image: 'img', guest: { memory_mb: 512 } } };
const MACHINE = { id: '6830d9a1c2b3e4', name: 's-one-1', state: 'created', region: 'sjc' };
const OTHER = { id: 'aaaaaaaaaaaaaa', name: 's-two-1', state: 'started' };
const VIOLATION: Play = {
  status: 409,
  json: {
    error: `already_exists: unique machine name violation, machine ID ${MACHINE.id} already exists with name "s-one-1"`,
  },
};
const LIST = '/v1/apps/cell/machines';
const ONE = `${LIST}/${MACHINE.id}`;

/** Answers of the three calls that a create may need; each a play, or one for each time it is asked. */
function fly(script: { post: Play[]; list?: Play[]; get?: Play[] }) {
  const next = { post: 0, list: 0, get: 0 };
  const take = (which: 'post' | 'list' | 'get'): Play => {
    const plays = script[which] ?? [];
    const play = plays[Math.min(next[which]++, plays.length - 1)];
    return play ?? { status: 500, json: { error: `no script for ${which}` } };
  };
  return scriptedServer((request: Seen) => {
    if (request.method === 'POST') return take('post');
    return take(request.path === LIST ? 'list' : 'get');
  });
}

const posts = (server: { seen: Seen[] }): number => server.seen.filter((one) => one.method === 'POST').length;

describe('createMachine', () => {
  it('sends the request as it stands and gives the machine', async () => {
    const server = await fly({ post: [{ json: MACHINE }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
    expect(server.seen).toHaveLength(1);
    expect(server.seen[0]).toMatchObject({ method: 'POST', path: LIST, body: REQUEST });
  });

  const LOST: [what: string, play: Play][] = [
    ['a reset', 'reset'],
    ['a body cut short', 'cut'],
    ['a 408', { status: 408, json: { error: 'deadline_exceeded: context deadline exceeded' } }],
    ['a 502 page', { status: 502, text: '<html><h1>Bad Gateway</h1></html>' }],
    ['a 504', { status: 504 }],
    ['a 500', { status: 500, json: { error: 'internal' } }],
    ['a 200 that is no machine', { json: {} }],
  ];

  it.each(LOST)('after %s looks for the name and adopts the machine', async (_what, lost) => {
    const server = await fly({ post: [lost], list: [{ json: [OTHER, MACHINE] }], get: [{ json: MACHINE }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
    expect(server.calls()).toEqual([`POST ${LIST}`, `GET ${LIST}`, `GET ${ONE}`]);
  });

  it('adopts what the list shows where the machine can not be read yet', async () => {
    const server = await fly({ post: ['reset'], list: [{ json: [MACHINE] }], get: [{ status: 404 }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
  });

  it('tries the same name again where nothing has it', async () => {
    const server = await fly({ post: ['reset', { json: MACHINE }], list: [{ json: [OTHER] }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
    expect(server.calls()).toEqual([`POST ${LIST}`, `GET ${LIST}`, `POST ${LIST}`]);
    expect(server.seen[2]?.body).toEqual(server.seen[0]?.body);
  });

  it('is led by the name violation to a machine that the list does not show yet', async () => {
    const server = await fly({ post: ['reset', VIOLATION], list: [{ json: [] }], get: [{ json: MACHINE }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
    expect(server.calls()).toEqual([`POST ${LIST}`, `GET ${LIST}`, `POST ${LIST}`, `GET ${ONE}`]);
  });

  it('adopts by the violation alone, as after a crash of the caller', async () => {
    const server = await fly({ post: [VIOLATION], get: [{ json: MACHINE }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
  });

  it('finds it by name when the violation names no id', async () => {
    const words = { status: 409, json: { error: 'already_exists: unique machine name violation' } };
    const server = await fly({ post: [words], list: [{ json: [MACHINE] }], get: [{ json: MACHINE }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
  });

  it('makes a new one when the holder of the name has been destroyed meanwhile', async () => {
    const fresh = { ...MACHINE, id: 'bbbbbbbbbbbbbb' };
    const dead = { json: { ...MACHINE, state: 'destroyed' } };
    const server = await fly({ post: [VIOLATION, { json: fresh }], get: [dead], list: [{ json: [] }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(fresh);
  });

  it('ends with unknown_outcome after a bounded number of tries', async () => {
    const server = await fly({ post: ['reset'], list: [{ json: [] }] });
    const error = await failureOf(testClient(server.url).createMachine('cell', REQUEST));
    expect(error).toMatchObject({ kind: 'unknown_outcome', call: 'createMachine', target: 'cell/s-one-1' });
    expect(posts(server)).toBe(4);
  });

  it('names the machine that exists where it could not be read', async () => {
    const server = await fly({ post: [VIOLATION], list: [{ status: 500 }], get: [{ status: 500 }] });
    const error = await failureOf(testClient(server.url).createMachine('cell', REQUEST));
    expect(error).toMatchObject({ kind: 'unknown_outcome', existingMachineId: MACHINE.id });
  });

  it('does not let a later refusal clear up an earlier doubt', async () => {
    const limit = { status: 422, json: { error: 'Your organization has reached its machine limit.' } };
    const server = await fly({ post: ['reset', limit], list: [{ json: [] }] });
    const error = await failureOf(testClient(server.url).createMachine('cell', REQUEST));
    expect(error.kind).toBe('unknown_outcome');
    expect(error.detail).toContain('machine limit');
    expect(posts(server)).toBe(2);
  });

  it('looks once more after such a refusal', async () => {
    const limit = { status: 422, json: { error: 'Your organization has reached its machine limit.' } };
    const server = await fly({
      post: ['reset', limit],
      list: [{ json: [] }, { json: [MACHINE] }],
      get: [{ json: MACHINE }],
    });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
  });

  it('does not adopt what a list that is behind still shows', async () => {
    const fresh = { ...MACHINE, id: 'bbbbbbbbbbbbbb' };
    const dead = { json: { ...MACHINE, state: 'destroyed' } };
    const server = await fly({ post: ['reset', { json: fresh }], list: [{ json: [MACHINE] }], get: [dead] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(fresh);
  });

  it('goes on through refusals for the rate while in doubt', async () => {
    const rate = { status: 429 };
    const server = await fly({
      post: ['reset', rate, rate, rate, rate, { json: MACHINE }],
      list: [{ json: [] }],
    });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
  });

  it.each([
    ['mistake', { status: 400, json: { error: 'bad image' } }],
    [
      'capacity',
      { status: 422, json: { error: 'could not find a candidate host', status: 'insufficient_capacity' } },
    ],
    ['quota', { status: 422, json: { error: 'Your organization has reached its machine limit.' } }],
    ['auth', { status: 401, json: { error: 'unauthorized' } }],
    ['not_found', { status: 404, json: { error: 'Could not find App "cell"' } }],
  ])('gives up at once on %s', async (kind, refusal) => {
    const server = await fly({ post: [refusal] });
    expect(await failureOf(testClient(server.url).createMachine('cell', REQUEST))).toMatchObject({ kind });
    expect(server.seen).toHaveLength(1);
  });

  it('repeats after 429 without a look, as that had no effect', async () => {
    const server = await fly({ post: [{ status: 429 }, { status: 429 }, { json: MACHINE }] });
    await expect(testClient(server.url).createMachine('cell', REQUEST)).resolves.toEqual(MACHINE);
    expect(server.calls()).toEqual([`POST ${LIST}`, `POST ${LIST}`, `POST ${LIST}`]);
  });

  it('looks for nothing where its turn never came: nothing was sent', async () => {
    const server = await fly({ post: [{ json: MACHINE }] });
    const client = testClient(server.url);
    const created = Array.from({ length: 9 }, () =>
      client.createMachine('cell', REQUEST, { timeoutMs: 2_500 }).then(
        () => 'created',
        (error: { kind: string }) => error.kind,
      ),
    );
    const outcomes = await Promise.all(created);
    const made = outcomes.filter((outcome) => outcome === 'created');
    expect(made.length).toBeGreaterThanOrEqual(3);
    expect(outcomes.filter((outcome) => outcome === 'rate')).toHaveLength(9 - made.length);
    expect(made.length).toBeLessThan(9);
    expect(server.calls()).toEqual(made.map(() => `POST ${LIST}`));
  });

  it('looks once where the outcome is unknown and the turn for another try does not come in time', async () => {
    const server = await scriptedServer(({ method, body }) => {
      if (method === 'GET') return { json: [] };
      return (body as { name: string }).name === REQUEST.name ? 'reset' : { json: OTHER };
    });
    let now = 0;
    const client = testClient(server.url, {
      clock: () => now,
      // Pauses are over at once; the line for the rate limit, which waits without a signal, stands still.
      sleep: (ms, signal) => {
        if (signal === undefined) return new Promise(() => {});
        now += ms;
        return Promise.resolve();
      },
    });
    const enough = new AbortController();
    const { signal } = enough;
    const first = failureOf(client.createMachine('cell', REQUEST, { timeoutMs: 5_000, signal }));
    const others = ['two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'].map((name) =>
      client.createMachine('cell', { ...REQUEST, name }, { signal }).catch(() => undefined),
    );
    expect(await first).toMatchObject({ kind: 'unknown_outcome' });
    enough.abort();
    await Promise.all(others);
    expect(server.calls().filter((call) => call === `GET ${LIST}`)).toHaveLength(1);
  });

  it('is a platform fault without doubt where no connection was made in time', async () => {
    const client = testClient(await deafServer(), { clock: () => performance.now() });
    const error = await failureOf(client.createMachine('cell', REQUEST, { timeoutMs: 200 }));
    expect(error).toMatchObject({ kind: 'platform', status: undefined });
  });

  it('is a platform fault without doubt where no connection was made', async () => {
    const server = await fly({ post: [] });
    const closed = server.url.replace(/:\d+$/, ':1');
    const error = await failureOf(testClient(closed).createMachine('cell', REQUEST));
    expect(error).toMatchObject({ kind: 'platform', reason: 'unreachable', status: undefined });
  });

  it('stops within its time when Fly hangs, and says that the outcome is unknown', async () => {
    const server = await fly({ post: ['hang'], list: ['hang'] });
    const client = testClient(server.url, { clock: () => performance.now() });
    const error = await failureOf(client.createMachine('cell', REQUEST, { timeoutMs: 200 }));
    expect(error).toMatchObject({ kind: 'unknown_outcome', reason: 'timeout' });
    expect(posts(server)).toBe(1);
  });

  it('stops at an abort, and says that the outcome is unknown', async () => {
    const abort = new AbortController();
    const server = await scriptedServer(() => {
      abort.abort();
      return 'hang';
    });
    const error = await failureOf(
      testClient(server.url).createMachine('cell', REQUEST, { signal: abort.signal }),
    );
    expect(error).toMatchObject({ kind: 'unknown_outcome', reason: 'aborted' });
    expect(server.seen).toHaveLength(1);
  });
});

describe('madeNothing', () => {
  it.each([
    ['rate', true],
    ['platform', true],
    ['capacity', true],
    ['quota', true],
    ['mistake', true],
    ['auth', true],
    ['not_found', true],
    ['conflict', false],
    ['precondition', false],
    ['unknown_outcome', false],
  ] as const)('of a create that failed with %s: %s', (kind, nothing) => {
    expect(madeNothing(flyError(kind, { call: 'createMachine', detail: '' }))).toBe(nothing);
  });
});
