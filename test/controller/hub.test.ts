import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { Readable } from 'node:stream';
import { pino } from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import { AgentHub, type HubDeps } from '../../controller/agents/hub.ts';
import type { AgentLink } from '../../controller/agents/link.ts';
import { agentToken } from '../../controller/agents/token.ts';
import { FakeAgent } from './fake-agent.ts';

const SECRET = 'a-secret-of-at-least-32-characters';
const log = pino({ level: 'silent' });

async function rig(deps: Partial<HubDeps> = {}) {
  const hub = new AgentHub({
    secret: SECRET,
    liveSandbox: async () => ({ incarnation: 1, app: 'cell' }),
    log,
    ...deps,
  });
  const server: Server = createServer();
  server.on('upgrade', (request, socket, head) => hub.handleUpgrade(request, socket, head));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const agents: FakeAgent[] = [];
  onTestFinished(() => {
    for (const agent of agents) agent.stop();
    hub.close();
    server.close();
  });
  const dial = (sandbox: string, { path = '/v1/agent', secret = SECRET } = {}): FakeAgent => {
    const agent = new FakeAgent(`ws://127.0.0.1:${port}${path}`, agentToken(secret, sandbox)).start();
    agents.push(agent);
    return agent;
  };
  return { hub, dial, port };
}

const nobody = async (): Promise<null> => null;
const away = async (): Promise<null> => {
  throw new Error('away');
};

const get = (link: AgentLink, path: string) => link.request({ method: 'GET', path });

describe('the hub', () => {
  it('gives the link of an agent that dials, and carries requests both ways', async () => {
    const { hub, dial } = await rig({ liveSandbox: async () => ({ incarnation: 7, app: 'cell' }) });
    dial('s-one-7');
    const link = await hub.waitFor('s-one-7', { timeoutMs: 5_000 });
    expect(link).toMatchObject({ sandbox: 's-one-7', incarnation: 7, connected: true });
    expect(await (await get(link, '/health')).expect()).toEqual({ running_execs: 0 });
    expect(hub.get('s-one-7')).toBe(link);
    expect(hub.get('s-one-8')).toBeUndefined();
  });

  it.each([
    ['a wrong secret', 401, { secret: `${SECRET}!` }, {}],
    ['another path', 404, { path: '/v1/agents' }, {}],
    ['a sandbox that is not live', 403, {}, { liveSandbox: nobody }],
    ['a database that is away', 503, {}, { liveSandbox: away }],
  ] as const)('refuses %s with %i', async (_what, status, dialing, deps) => {
    const { hub, dial } = await rig(deps);
    const agent = dial('s-one-1', dialing);
    await expect.poll(() => agent.refused).toBe(status);
    expect(hub.size).toBe(0);
  });

  it('leads no agent on after it was closed, also where it finds out only then', async () => {
    const other = await rig();
    const { promise, resolve } = Promise.withResolvers<void>();
    let asked = 0;
    const { hub, dial } = await rig({
      async liveSandbox() {
        asked++;
        await promise;
        return { incarnation: 1, app: 'cell', elsewhere: `http://127.0.0.1:${other.port}` };
      },
    });
    const agent = dial('s-one-1');
    await expect.poll(() => asked).toBe(1);
    hub.close();
    resolve();
    await expect.poll(() => agent.refused).toBe(503);
    expect(other.hub.size).toBe(0);
  });

  it('replaces a link by a newer one of the same agent', async () => {
    const { hub, dial } = await rig();
    dial('s-one-1');
    const first = await hub.waitFor('s-one-1', { timeoutMs: 5_000 });
    const closed = once(hub, 'disconnect');
    dial('s-one-1');
    expect(await closed).toEqual([first, 'the agent has connected anew']);
    expect(first.connected).toBe(false);
    await expect.poll(() => hub.get('s-one-1')?.connected).toBe(true);
    expect(hub.get('s-one-1')).not.toBe(first);
    expect(hub.size).toBe(1);
  });

  it('waits for an agent no longer than it is told, or until it is not wanted any more', async () => {
    const { hub } = await rig();
    await expect(hub.waitFor('s-one-1', { timeoutMs: 20 })).rejects.toMatchObject({
      code: 'agent_unreachable',
    });
    const reason = new Error('not wanted');
    const given = AbortSignal.abort(reason);
    await expect(hub.waitFor('s-one-1', { timeoutMs: 5_000, signal: given })).rejects.toBe(reason);
    expect(hub.listenerCount('connect')).toBe(0);
  });

  it('survives a peer that talks nonsense after the upgrade', async () => {
    const { hub, port, dial } = await rig();
    const socket = connect(port, '127.0.0.1');
    const token = agentToken(SECRET, 's-bad-1');
    socket.write(
      `GET /v1/agent HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n` +
        `sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nauthorization: Bearer ${token}\r\n\r\n`,
    );
    await once(socket, 'data');
    socket.write(Buffer.from([0x82, 0x85, 0, 0, 0, 0, 1, 2, 3, 4, 5]));
    socket.end();
    await once(socket, 'close');
    expect(hub.get('s-bad-1')).toBeUndefined();
    dial('s-one-1');
    expect(await hub.waitFor('s-one-1', { timeoutMs: 5_000 })).toMatchObject({ connected: true });
  });

  it('survives agents that are gone before their settings are acknowledged', async () => {
    const { hub, port, dial } = await rig();
    for (let round = 0; round < 40; round += 1) {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      const token = agentToken(SECRET, 's-gone-1');
      socket.write(
        `GET /v1/agent HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n` +
          `sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nauthorization: Bearer ${token}\r\n\r\n`,
      );
      await once(socket, 'data');
      const closed = once(socket, 'close');
      // One binary message, its mask of zeros: an empty SETTINGS frame. Nobody is there for the answer.
      const settings = [0x82, 0x89, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0];
      socket.write(Buffer.from(settings), () => socket.resetAndDestroy());
      await closed;
    }
    dial('s-one-1');
    expect(await hub.waitFor('s-one-1', { timeoutMs: 5_000 })).toMatchObject({ connected: true });
  });

  it('closes a link whose agent answers no ping', async () => {
    const { hub, dial } = await rig({ ping: { everyMs: 10, answerMs: 0 } });
    dial('s-one-1');
    const [link, reason] = await once(hub, 'disconnect');
    expect(link).toMatchObject({ sandbox: 's-one-1' });
    expect(reason).toBe('no answer to a ping');
  });

  it('takes nobody once it is closed', async () => {
    const { hub, dial } = await rig();
    dial('s-one-1');
    const link = await hub.waitFor('s-one-1', { timeoutMs: 5_000 });
    hub.close();
    await link.closed;
    const late = dial('s-two-1');
    await expect.poll(() => late.refused).toBe(503);
  });
});

describe('a link', () => {
  async function linked() {
    const { hub, dial } = await rig();
    const agent = dial('s-one-1');
    return { hub, agent, link: await hub.waitFor('s-one-1', { timeoutMs: 5_000 }) };
  }

  it('throws the agent error with its own code', async () => {
    const { link } = await linked();
    const reply = await get(link, '/execs/none/output?stdout=0&stderr=0');
    await expect(reply.expect()).rejects.toMatchObject({ code: 'exec_not_found', status: 404 });
  });

  it('says agent_lost when the connection breaks before the answer', async () => {
    const { link, agent } = await linked();
    agent.machine.gates.set('/health', new Promise(() => {}));
    const asked = get(link, '/health');
    await expect.poll(() => agent.machine.requests).toContain('GET /health');
    agent.cut();
    await expect(asked).rejects.toMatchObject({ code: 'agent_lost', kind: 'unknown' });
  });

  it('says agent_lost when there is no answer in time', async () => {
    const { link, agent } = await linked();
    agent.machine.gates.set('/health', new Promise(() => {}));
    await expect(link.request({ method: 'GET', path: '/health', timeoutMs: 30 })).rejects.toMatchObject({
      code: 'agent_lost',
      detail: expect.stringContaining('30 ms'),
    });
    expect(link.connected).toBe(true);
  });

  it('says agent_lost when an answer begins and does not end', async () => {
    const { link, agent } = await linked();
    agent.machine.unfinished.add('/health');
    const reply = await link.request({ method: 'GET', path: '/health', timeoutMs: 30 });
    await expect(reply.expect()).rejects.toMatchObject({
      code: 'agent_lost',
      detail: expect.stringContaining('30 ms'),
    });
    expect(link.connected).toBe(true);
  });

  it('says agent_unreachable when nothing could be sent', async () => {
    const { link } = await linked();
    link.close('test');
    await expect(get(link, '/health')).rejects.toMatchObject({ code: 'agent_unreachable', kind: 'fault' });
  });

  it('breaks the body off with agent_lost, never with a quiet end', async () => {
    const { link, agent } = await linked();
    const reply = await link.request({
      method: 'PUT',
      path: '/execs/a?follow=1',
      body: '{"command":"wait"}',
    });
    const chunks = reply.body[Symbol.asyncIterator]();
    await chunks.next();
    agent.cut();
    await expect(chunks.next()).rejects.toMatchObject({ code: 'agent_lost' });
  });

  it('lets go of a request whose caller is gone', async () => {
    const { link, agent } = await linked();
    agent.machine.gates.set('/health', new Promise(() => {}));
    const caller = new AbortController();
    const asked = link.request({ method: 'GET', path: '/health', signal: caller.signal });
    caller.abort(new Error('gone'));
    await expect(asked).rejects.toThrow('gone');
  });

  it('carries large bodies whole', async () => {
    const { link, agent } = await linked();
    const input = Buffer.alloc(3_000_000, 'x');
    await link.request({ method: 'PUT', path: '/execs/a', body: '{"command":"cat","stdin":true}' });
    const chunks = Readable.from([input.subarray(0, 1_000_000), input.subarray(1_000_000)]);
    const reply = await link.request({ method: 'POST', path: '/execs/a/stdin?offset=0&eof=1', body: chunks });
    expect(await reply.expect()).toEqual({ received: input.length });
    const output = await get(link, '/execs/a/output?stdout=0&stderr=0');
    let bytes = 0;
    for await (const chunk of output.body) bytes += (chunk as Buffer).length;
    expect(bytes).toBeGreaterThan(input.length);
    expect(agent.machine.execs.get('a')!.bytes.stdout).toBe(input.length);
  });

  it('passes on what the body of a request fails with', async () => {
    const { link } = await linked();
    const broken = new Readable({ read() {} });
    const asked = link.request({ method: 'POST', path: '/execs/a/stdin', body: broken });
    broken.destroy(new Error('the source broke'));
    await expect(asked).rejects.toThrow();
    expect(link.connected).toBe(true);
  });
});
