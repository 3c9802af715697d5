import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { FakeExec } from './fake-agent.ts';
import { Fleet } from './fleet.ts';
import { World } from './world.ts';

let world: World;
let fleet: Fleet;
beforeAll(async () => {
  world = await World.start();
});
afterEach(async () => {
  await world.closeAll();
  fleet?.end();
});
afterAll(() => world.end());

const LONG = 600_000;
/** The exec that the agent runs, as soon as it does. */
async function execIn(sandbox: string): Promise<FakeExec> {
  await world.until(() => world.running(sandbox).inside.execs.size > 0);
  return [...world.running(sandbox).inside.execs.values()][0]!;
}

describe('two controllers', () => {
  it('share the cells; a request reaches its session through either', async () => {
    fleet = await Fleet.start(world, { cells: 4, leaseMs: 3_000 });
    const [a, b] = [await fleet.spawn(), await fleet.spawn()];
    await fleet.share({ [a.url]: 2, [b.url]: 2 });
    const ids = ['two-1', 'two-2', 'two-3', 'two-4'];
    await Promise.all(
      ids.map((id, n) => (n < 2 ? fleet.sessionAt(a.url, id) : fleet.mobvibe.sessions.create({ id }))),
    );
    for (const url of [a.url, b.url]) {
      fleet.api.backends = [url];
      for (const id of ids) {
        const session = await fleet.mobvibe.sessions.get(id);
        expect(await session.exec(`echo ${id}`)).toMatchObject({ exitCode: 0, stdout: `${id}\n` });
      }
    }
    // Stopped through the one that it is not with.
    const holders = await fleet.holders();
    for (const id of ids) {
      const [row] = await world.sandboxes(id);
      fleet.api.backends = [holders[row!.app] === a.url ? b.url : a.url];
      await (await fleet.mobvibe.sessions.get(id)).stop();
      expect(await world.store.getSession(id)).toMatchObject({ status: 'stopped', error: null });
    }
    for (const app of fleet.cells) expect(await world.live(app)).toEqual([]);
  });

  it('one of them killed: the other takes over, sessions stay, execs and jobs lose no byte and run once', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 1_500 });
    const [a, b] = [await fleet.spawn(), await fleet.spawn()];
    await fleet.share({ [a.url]: 1, [b.url]: 1 });
    const id = await fleet.sessionAt(a.url, 'kill-1');
    const jobbed = await fleet.sessionAt(a.url, 'kill-2');
    const other = await fleet.sessionAt(b.url, 'kill-3');
    const { app } = (await world.sandboxes(id))[0]!;
    expect((await fleet.holders())[app]).toBe(a.url);

    let seen = '';
    const session = await fleet.mobvibe.sessions.get(id);
    const running = session.exec('stay', {
      onStdout: (data) => {
        seen += data;
      },
    });
    const exec = await execIn('s-kill-1-1');
    const job = await fleet.mobvibe.jobs.create(jobbed, 'stay');
    const jobExec = await execIn('s-kill-2-1');
    exec.write('stdout', 'one ');
    jobExec.write('stdout', 'eins ');
    await world.until(() => seen === 'one ');
    await world.until(async () => (await world.store.listJobOutput(job.id, { limit: 9 })).length > 0);

    a.child.kill('SIGKILL');
    await a.exit;
    exec.write('stdout', 'two ');
    jobExec.write('stdout', 'zwei ');
    // What lives with the other is not touched by it.
    expect(await (await fleet.mobvibe.sessions.get(other)).exec('echo on')).toMatchObject({ stdout: 'on\n' });
    await fleet.share({ [b.url]: 2 });
    exec.write('stdout', 'three');
    exec.end({ kind: 'exited', code: 7 });
    jobExec.write('stdout', 'drei');
    jobExec.end({ kind: 'exited', code: 0 });
    expect(await running).toMatchObject({ exitCode: 7, stdout: 'one two three' });
    expect(await fleet.mobvibe.jobs.wait(job.id)).toMatchObject({ status: 'succeeded', attempts: 1 });
    const output = await world.store.listJobOutput(job.id, { limit: 99 });
    expect(output.map(({ data, encoding }) => Buffer.from(data, encoding)).join('')).toBe('eins zwei drei');
    for (const name of ['s-kill-1-1', 's-kill-2-1']) {
      expect(world.running(name).inside.execs.size).toBe(1);
      expect(world.boots.filter((boot) => boot === name)).toHaveLength(1);
      expect(await world.store.findSandbox(name)).toMatchObject({ state: 'ready', app });
    }
    // And what is asked for from now on is done by the other.
    await session.stop();
    expect(await world.store.getSession(id)).toMatchObject({ status: 'stopped', error: null });
    await fleet.mobvibe.sessions.create({ id: 'kill-4' });
  });

  it('one of them killed within a start: the other brings it to its end, with the one machine', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 1_000 });
    const [a, b] = [await fleet.spawn(), await fleet.spawn()];
    await fleet.share({ [a.url]: 1, [b.url]: 1 });
    world.mute.add('s-half-1');
    fleet.api.backends = [a.url];
    await fleet.mobvibe.sessions.create({ id: 'half', waitMs: 0 });
    await world.until(() => world.boots.includes('s-half-1'));
    a.child.kill('SIGKILL');
    await a.exit;
    fleet.api.backends = [b.url];
    const opened = fleet.world.store.getSession('half');
    expect(await opened).toMatchObject({ status: 'starting' });
    await fleet.share({ [b.url]: 2 });
    world.running('s-half-1').agent.start();
    await world.until(async () => (await world.store.getSession('half')).status === 'ready');
    expect(await (await fleet.mobvibe.sessions.get('half')).exec('echo on')).toMatchObject({
      stdout: 'on\n',
    });
    const machines = (await Promise.all(fleet.cells.map((app) => world.live(app)))).flat();
    expect(machines.map(({ name }) => name)).toEqual(['s-half-1']);
  });

  it('one of them told to go: the other has its cells without waiting for the lease, and its sandboxes', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 3_000 });
    const [a, b] = [await fleet.spawn({ MOBVIBE_CELL_LEASE_MS: String(LONG) }), await fleet.spawn()];
    // By way of the other, which is to go as well.
    fleet.agents.backends = [b.url];
    await fleet.sessionAt(a.url, 'term');
    const { app } = (await world.sandboxes('term'))[0]!;
    expect((await fleet.holders())[app]).toBe(a.url);
    a.child.kill('SIGTERM');
    expect(await a.exit).toBe(0);
    await fleet.share({ [b.url]: 2 });
    expect(await (await fleet.mobvibe.sessions.get('term')).exec('echo on')).toMatchObject({
      stdout: 'on\n',
    });
    expect(world.boots.filter((boot) => boot === 's-term-1')).toHaveLength(1);
    // An agent that it led on does not hold up the one that led it.
    const c = await fleet.spawn();
    fleet.agents.backends = [c.url];
    world.running('s-term-1').agent.cut();
    const back = (await fleet.mobvibe.sessions.get('term')).exec('echo back');
    expect(await back).toMatchObject({ stdout: 'back\n' });
    c.child.kill('SIGTERM');
    expect(await c.exit).toBe(0);
  });
});

describe('a controller whose process stands still', () => {
  it('holds no request up: refused in time while it has the cell, and done by the other once that is taken over', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 21_000 });
    const [a, b] = [await fleet.spawn(), await fleet.spawn()];
    await fleet.share({ [a.url]: 1, [b.url]: 1 });
    await fleet.sessionAt(a.url, 'still');
    let count = 0;
    const ask = () =>
      fetch(`${b.url}/v1/sessions/still/execs/e${++count}`, {
        method: 'PUT',
        headers: {
          authorization: `Bearer ${fleet.apiKey}`,
          'content-type': 'application/json',
          accept: 'application/x-ndjson',
        },
        body: '{"command":"echo on"}',
      });
    expect((await ask()).status).toBe(201);
    a.child.kill('SIGSTOP');
    fleet.leave(a.url);
    const began = performance.now();
    // It was heard a moment ago, so this one may have been sent.
    expect([502, 503]).toContain((await ask()).status);
    const answer = await ask();
    expect(performance.now() - began).toBeLessThan(15_000);
    expect([answer.status, await answer.json()]).toMatchObject([503, { code: 'cell_elsewhere' }]);
    // Nothing was sent: it runs what it ran before.
    expect(world.running('s-still-1').inside.execs.size).toBe(1);
    // Its agent hears of the other when the connection to the frozen one is found dead.
    await fleet.share({ [b.url]: 2 });
    world.running('s-still-1').agent.cut();
    await world.until(async () => (await ask()).ok);
    a.child.kill('SIGCONT');
    await world.until(async () => (await ask()).ok);
    expect(world.boots.filter((boot) => boot === 's-still-1')).toHaveLength(1);
  }, 180_000);
});

describe('a controller', () => {
  it('that joins gets its share; agents and execs of a cell that changes hands go over to it', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 1_500 });
    const first = await fleet.within();
    await fleet.share({ [first.url]: 2 });
    for (const id of ['join-1', 'join-2']) await fleet.sessionAt(first.url, id);
    const execs = await Promise.all(
      ['join-1', 'join-2'].map(async (id) => {
        const running = (await fleet.mobvibe.sessions.get(id)).exec('stay');
        return { running, exec: await execIn(`s-${id}-1`) };
      }),
    );
    const second = await fleet.within();
    await fleet.share({ [first.url]: 1, [second.url]: 1 });
    await world.until(() => first.hub.size === 1 && second.hub.size === 1);
    for (const { exec } of execs) {
      exec.write('stdout', 'whole');
      exec.end({ kind: 'exited', code: 0 });
    }
    for (const { running } of execs) expect(await running).toMatchObject({ exitCode: 0, stdout: 'whole' });
    for (const controller of [first, second]) {
      for (const app of fleet.cells) {
        const holds = (await fleet.holders())[app] === controller.url;
        expect(controller.cells.holds(app)).toBe(holds);
      }
    }
  });

  it('is reached by an agent that comes in through another, and where both are wrong the agent dials again', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 3_000 });
    const [a, b] = [await fleet.within(), await fleet.within()];
    await fleet.share({ [a.url]: 1, [b.url]: 1 });
    fleet.agents.backends = [a.url];
    await fleet.sessionAt(b.url, 'way');
    expect(a.hub.get('s-way-1')).toBeUndefined();
    expect(b.hub.get('s-way-1')?.connected).toBe(true);
    expect(await b.manager.execCommand('way', 'echo through')).toMatchObject({ stdout: 'through\n' });
    // The connection through the first breaks: both ends notice.
    const { agent } = world.running('s-way-1');
    const link = b.hub.get('s-way-1');
    agent.cut();
    await world.until(() => b.hub.get('s-way-1') !== link && b.hub.get('s-way-1')?.connected);
    // What was handed on once is not handed on again.
    const guarded = await fetch(`${a.url}/v1/sessions/way/stop`, {
      method: 'POST',
      headers: { authorization: 'Bearer mvk_nobody_knows_this_one', 'x-mobvibe-forwarded': '1' },
    });
    expect(guarded.status).toBe(401);
  });

  it('without a cell takes new sessions all the same', async () => {
    fleet = await Fleet.start(world, { cells: 1, leaseMs: 3_000 });
    const holder = await fleet.within();
    await fleet.share({ [holder.url]: 1 });
    const idle = await fleet.within();
    await fleet.sessionAt(idle.url, 'idle');
    expect(idle.cells.apps).toEqual([]);
    expect(holder.hub.get('s-idle-1')?.connected).toBe(true);
    // A job that was queued through it, too.
    fleet.api.backends = [idle.url];
    const job = await fleet.mobvibe.jobs.create('idle', 'echo done');
    expect(await fleet.mobvibe.jobs.wait(job.id)).toMatchObject({ status: 'succeeded' });
  });

  it('that can’t renew stops working for its cells by itself, but not the agents that are with it', async () => {
    fleet = await Fleet.start(world, { cells: 1, leaseMs: 1_000 });
    const cut = await fleet.within();
    await fleet.share({ [cut.url]: 1 });
    await fleet.sessionAt(cut.url, 'cut');
    const row = (await world.sandboxes('cut'))[0]!;
    const { signal, token } = { signal: cut.cells.signal(row.app), token: cut.cells.token(row.app) };
    cut.store.renewCells = async () => {
      throw new Error('no way to the database');
    };
    await world.until(() => signal.aborted);
    expect(cut.cells.apps).toEqual([]);
    expect(() => cut.store.sandboxDestroying(row, 'stale', 'test')).toThrow('fenced');
    // Nobody else is there: its agent stays, and so does work in the sandbox.
    expect(await cut.manager.execCommand('cut', 'echo on')).toMatchObject({ stdout: 'on\n' });

    const next = await fleet.within();
    await fleet.share({ [next.url]: 1 });
    expect(next.cells.token(row.app)).toBeGreaterThan(token);
  });

  it('drops the agents of its cell when it learns that the cell is another’s', async () => {
    fleet = await Fleet.start(world, { cells: 1, leaseMs: 1_000 });
    const paused = await fleet.within();
    await fleet.share({ [paused.url]: 1 });
    await fleet.sessionAt(paused.url, 'paused');
    const { renewCells } = paused.store;
    paused.store.renewCells = async () => {
      throw new Error('no way to the database');
    };
    const next = await fleet.within();
    await fleet.share({ [next.url]: 1 });
    expect(paused.hub.size).toBe(1);
    paused.store.renewCells = renewCells;
    await world.until(() => paused.hub.size === 0 && next.hub.get('s-paused-1')?.connected);
    expect(await next.manager.execCommand('paused', 'echo here')).toMatchObject({ stdout: 'here\n' });
    expect(paused.cells.apps).toEqual([]);
  });

  it('that does not reach Fly gives its cells to one that does, takes none, and has its share again when it does', async () => {
    fleet = await Fleet.start(world, { cells: 2, leaseMs: 1_000 });
    const wire = await cuttable(world.fly.url);
    const reach = { unableAfterMs: 300, askAgainMs: 50, askIdleMs: 200 };
    const cut = await fleet.within({ FLY_FLAPS_BASE_URL: wire.url }, { reach });
    await fleet.share({ [cut.url]: 2 });
    await fleet.sessionAt(cut.url, 'reach');
    // Nobody can do better: it keeps what it has, and what runs there goes on.
    wire.cut = true;
    await world.until(async () => (await metric(cut, 'mobvibe_fly_able')) === 0);
    await cut.cells.refresh();
    expect(cut.cells.apps).toHaveLength(2);
    expect(await cut.manager.execCommand('reach', 'echo on')).toMatchObject({ stdout: 'on\n' });

    const sound = await fleet.within({}, { reach });
    await fleet.share({ [sound.url]: 2 });
    await world.until(() => cut.cells.apps.length === 0 && sound.hub.get('s-reach-1')?.connected);
    expect(await sound.manager.execCommand('reach', 'echo moved')).toMatchObject({ stdout: 'moved\n' });
    // Asked all the same, it leads on to the other.
    await fleet.sessionAt(cut.url, 'reach-2');
    expect(world.boots.filter((boot) => boot.startsWith('s-reach-'))).toEqual(['s-reach-1', 's-reach-2-1']);
    wire.cut = false;
    await fleet.share({ [cut.url]: 1, [sound.url]: 1 });
    wire.close();
  });
});

async function metric({ url }: { url: string }, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1]);
}

/** A way to a server that can be cut: then nobody answers at its end. */
async function cuttable(target: string) {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  const wire = {
    url: '',
    cut: false,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
  const server = createServer((socket) => {
    const upstream = connect(Number(port), hostname);
    for (const end of [socket, upstream]) {
      sockets.add(end);
      end.on('error', () => {});
    }
    // Whatever comes once it is cut ends the connection that it comes by.
    for (const [from, to] of [[socket, upstream] as const, [upstream, socket] as const]) {
      from.on('data', (chunk) => (wire.cut ? from.destroy() : to.write(chunk)));
      from.once('close', () => to.destroy());
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  wire.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return wire;
}
