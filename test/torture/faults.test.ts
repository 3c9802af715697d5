import { once } from 'node:events';
import http from 'node:http';
import { createServer, connect as dial } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { ask, outcomeOf } from '../../torture/clients/api.ts';
import { FAULTS, type FaultKind, schedule } from '../../torture/faults/schedule.ts';
import { databaseRules, flyRules } from '../../torture/faults/weather.ts';
import { randomFrom } from '../../torture/random.ts';
import { Gate } from '../../torture/world/gate.ts';
import { type Effect, HttpGate } from '../../torture/world/http-gate.ts';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

test('the same seed gives the same faults, another one others; all are over in time', () => {
  const faults = schedule(randomFrom(7), 120);
  expect(schedule(randomFrom(7), 120)).toEqual(faults);
  expect(schedule(randomFrom(8), 120)).not.toEqual(faults);
  for (const { at, lasts } of faults) expect(at + lasts).toBeLessThanOrEqual(120_000);
  expect(new Set(schedule(randomFrom(7), 5_000).map(({ kind }) => kind))).toEqual(
    new Set(Object.keys(FAULTS)),
  );
});

test('every fault of the weather has rules, whatever it has to choose', () => {
  const weather = Object.keys(FAULTS).filter((kind) =>
    /^(database|storage|fly)_(?!down|killed|frozen|full)/.test(kind),
  );
  for (const kind of [...weather, 'storage_full'] as FaultKind[]) {
    if (kind === 'fly_lists_nothing') continue;
    for (const choice of [0, 0.5, 0.999]) {
      expect([...databaseRules(kind, choice), ...flyRules(kind, choice)], kind).toHaveLength(1);
    }
  }
});

/** A service that counts what reaches it and answers what it got. */
async function service(): Promise<{ gate: HttpGate; got: string[] }> {
  const got: string[] = [];
  const server = http.createServer(async (request, response) => {
    let body = '';
    try {
      for await (const part of request) body += part;
    } catch {
      body += '…';
    }
    got.push(`${request.method} ${request.url} ${body}`);
    response.end(JSON.stringify({ body }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const gate = await HttpGate.open(() => 0);
  gate.target = (server.address() as { port: number }).port;
  closers.push(async () => {
    await gate.close();
    server.closeAllConnections();
    server.close();
  });
  return { gate, got };
}

test.each<[Effect, { outcome: string; status: number }, string[]]>([
  [{ kind: 'delay', ms: 1 }, { outcome: 'ack', status: 200 }, ['POST /a {"b":1}']],
  [{ kind: 'refuse' }, { outcome: 'maybe', status: 0 }, []],
  [{ kind: 'answer', status: 402, body: {} }, { outcome: 'maybe', status: 402 }, []],
  [{ kind: 'done', status: 502, body: {} }, { outcome: 'maybe', status: 502 }, ['POST /a {"b":1}']],
  [{ kind: 'lost' }, { outcome: 'maybe', status: 0 }, ['POST /a {"b":1}']],
  [{ kind: 'hang' }, { outcome: 'maybe', status: 0 }, []],
])('a request that meets %j', async (effect, expected, reached) => {
  const { gate, got } = await service();
  const end = gate.add({ match: /^POST \/a/, chance: 1, effect });
  const asked = ask(gate.url, 'k', { method: 'POST', path: '/a', body: { b: 1 } });
  if (effect.kind === 'hang') {
    // Others are not held up; the end of the fault ends it.
    expect(await ask(gate.url, 'k', { method: 'GET', path: '/other' })).toMatchObject({ status: 200 });
    got.length = 0;
    end();
  }
  expect(await asked).toMatchObject(expected);
  expect(got).toEqual(reached);
  end();
  expect(await ask(gate.url, 'k', { method: 'POST', path: '/a', body: {} })).toMatchObject({ status: 200 });
});

test('an upload that is cut arrives in part, and its sender learns that it broke', async () => {
  const { gate, got } = await service();
  gate.add({ match: /^PUT/, chance: 1, effect: { kind: 'cut' } });
  const bytes = Buffer.from('0123456789');
  expect(await ask(gate.url, 'k', { method: 'PUT', path: '/u', bytes })).toMatchObject({
    outcome: 'maybe',
    status: 0,
  });
  await expect.poll(() => got).toEqual([expect.stringMatching(/^PUT \/u (01234)?…$/)]);
});

test('a gate that is down refuses connections, and comes up where it was', async () => {
  const { gate } = await service();
  const { url } = gate;
  await gate.down();
  expect(await ask(url, 'k', { method: 'GET', path: '/' })).toMatchObject({
    outcome: 'refused',
    code: 'ECONNREFUSED',
  });
  await gate.up();
  expect(await ask(url, 'k', { method: 'GET', path: '/' })).toMatchObject({ status: 200 });
});

test('a network that is cut breaks what goes through it, until it is mended', async () => {
  const server = createServer((socket) => socket.on('error', () => {}).pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const gate = await Gate.open();
  closers.push(() => {
    gate.close();
    server.close();
  });
  // The first is dead: the next one takes it.
  gate.targets = [{ path: '/nowhere' }, { port: (server.address() as { port: number }).port }];
  const talk = async () => {
    const socket = dial(gate.port, '127.0.0.1').on('error', () => {});
    socket.write('x');
    const said = await Promise.race([
      once(socket, 'data').then(String),
      once(socket, 'close').then(() => 'broken'),
    ]);
    return { socket, said };
  };
  const { socket, said } = await talk();
  expect(said).toBe('x');
  const closed = once(socket, 'close');
  gate.cut();
  await closed;
  expect((await talk()).said).toBe('broken');
  gate.mend();
  const again = await talk();
  expect(again.said).toBe('x');
  again.socket.destroy();
});

test('the API itself says whether an error may have had an effect', () => {
  expect(outcomeOf(201, {})).toBe('ack');
  expect(outcomeOf(409, { kind: 'mistake' })).toBe('refused');
  expect(outcomeOf(503, { kind: 'fault' })).toBe('refused');
  expect(outcomeOf(502, { kind: 'unknown' })).toBe('maybe');
  expect(outcomeOf(502, {})).toBe('maybe');
});
