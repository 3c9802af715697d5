import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type CallEvent, createFlyClient } from '../../fly/index.ts';
import { failureOf, inOrder, type Play, scriptedServer, TOKEN, testClient } from './scripted-server.ts';

const SECRET_PARTS = ['fm2_canary1permission', 'fm2_canary2discharge', 'canary'];

/** All that a logger, a crash dump or a careless `catch` could make of it. */
function expose(error: Error): string {
  const parts: unknown[] = [
    error.message,
    error.stack,
    String(error),
    inspect(error, { depth: 20, showHidden: true }),
  ];
  for (let link: unknown = error; link instanceof Error; link = link.cause) {
    parts.push(
      JSON.stringify(link),
      ...Reflect.ownKeys(link).map((key) => inspect(Reflect.get(link as object, key))),
    );
  }
  return parts.join('\n');
}

const FAILURES: [kind: string, play: Play][] = [
  ['mistake', { status: 400, json: { error: `bad header Authorization: ${TOKEN}` } }],
  ['auth', { status: 401, json: { error: 'token fm2_canary2discharge has expired' } }],
  ['not_found', { status: 404, json: { error: `no machine for ${TOKEN}` } }],
  ['conflict', { status: 409, json: { message: `lease held by ${TOKEN}` } }],
  ['precondition', { status: 412, text: `<p>${TOKEN}</p>` }],
  ['capacity', { status: 422, json: { error: `no capacity ${TOKEN}`, status: TOKEN } }],
  ['quota', { status: 422, json: { error: `machine limit ${TOKEN}` } }],
  ['rate', { status: 429, text: TOKEN }],
  ['unknown_outcome', { status: 500, json: { error: TOKEN } }],
  ['unknown_outcome', 'reset'],
  ['unknown_outcome', 'cut'],
  ['unknown_outcome', { text: `not JSON: ${TOKEN}` }],
];

describe('the token', () => {
  it.each(FAILURES)('is in no part of a %s error', async (kind, play) => {
    const events: CallEvent[] = [];
    const server = await scriptedServer(inOrder(play));
    const client = testClient(server.url, { onCall: (event) => events.push(event) });
    const error = await failureOf(client.restartMachine('cell', 'm1'));
    expect(error.kind).toBe(kind);
    expect(server.seen[0]?.headers.authorization).toBe(TOKEN);
    expect(error.cause).toBeUndefined();
    for (const text of [expose(error), inspect(events, { depth: 20 }), inspect(client, { depth: 20 })]) {
      for (const secret of SECRET_PARTS) expect(text).not.toContain(secret);
    }
  });

  it('is in no part of a platform error without a connection', async () => {
    const error = await failureOf(testClient('http://127.0.0.1:1').getMachine('cell', 'm1'));
    expect(error.kind).toBe('platform');
    expect(expose(error)).not.toContain('canary');
  });

  it('is in no part of a timeout or an abort', async () => {
    const server = await scriptedServer(() => 'hang');
    const client = testClient(server.url, { clock: () => performance.now() });
    const late = await failureOf(client.restartMachine('cell', 'm1', { timeoutMs: 50 }));
    expect(late).toMatchObject({ kind: 'unknown_outcome', reason: 'timeout' });
    const aborted = await failureOf(client.restartMachine('cell', 'm2', { signal: AbortSignal.timeout(50) }));
    expect(aborted).toMatchObject({ kind: 'unknown_outcome', reason: 'aborted' });
    for (const error of [late, aborted]) expect(expose(error)).not.toContain('canary');
  });

  it('is not sent to where a redirect points', async () => {
    const thief = await scriptedServer(() => ({ json: {} }));
    const server = await scriptedServer(() => ({
      status: 302,
      headers: { location: `${thief.url}/v1/apps/cell` },
    }));
    const error = await failureOf(testClient(server.url).getApp('cell'));
    expect(error).toMatchObject({ kind: 'mistake', status: 302 });
    expect(thief.seen).toEqual([]);
  });

  it('is not sent through a proxy that the environment names', async () => {
    const before = process.env.HTTP_PROXY;
    const proxy = await scriptedServer(() => ({ json: { id: 'proxy' } }));
    const server = await scriptedServer(() => ({ json: { id: 'direct' } }));
    process.env.HTTP_PROXY = proxy.url;
    try {
      await expect(testClient(server.url).getApp('cell')).resolves.toEqual({ id: 'direct' });
    } finally {
      if (before === undefined) delete process.env.HTTP_PROXY;
      else process.env.HTTP_PROXY = before;
    }
    expect(proxy.seen).toEqual([]);
  });

  it.each(['', ' ', 'a\nb', 'ünïcode-canary', 'two words too many canary'])(
    'is refused as %j, unseen',
    (token) => {
      const make = () => createFlyClient({ token });
      expect(make).toThrow(/token must be/);
      expect(make).not.toThrow(/canary/);
    },
  );

  it('is refused inside of baseUrl, unseen', () => {
    const make = () => createFlyClient({ token: 'x', baseUrl: 'https://canary:canary@api.machines.dev' });
    expect(make).toThrow(/baseUrl must be/);
    expect(make).not.toThrow(/canary/);
  });
});

describe('the authorization header', () => {
  it.each([
    ['FlyV1 fm2_a,fm2_b', 'FlyV1 fm2_a,fm2_b'],
    ['fm2_a,fm2_b', 'FlyV1 fm2_a,fm2_b'],
    ['Bearer fm2_a', 'FlyV1 fm2_a'],
    ['fm1r_a', 'FlyV1 fm1r_a'],
    ['fm1a_a', 'FlyV1 fm1a_a'],
    ['fo1_personal', 'Bearer fo1_personal'],
    ['Bearer fo1_personal', 'Bearer fo1_personal'],
    [' local-token\n', 'Bearer local-token'],
  ])('of the token %j is %j', async (token, header) => {
    const server = await scriptedServer(() => ({ json: [] }));
    await testClient(server.url, { token }).listMachines('cell');
    expect(server.seen[0]?.headers.authorization).toBe(header);
  });
});

describe('an app secret', () => {
  it('does not come back in an error that quotes it', async () => {
    const server = await scriptedServer(() => ({
      status: 400,
      json: { error: 'invalid value "p4ssw0rd-canary"' },
    }));
    const error = await failureOf(
      testClient(server.url).setSecrets('cell', { DB: 'p4ssw0rd-canary', OLD: null }),
    );
    expect(error).toMatchObject({ kind: 'mistake', detail: 'invalid value "[secret]"' });
    expect(expose(error)).not.toContain('canary');
  });
});
