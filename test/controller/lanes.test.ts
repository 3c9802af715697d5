import { once } from 'node:events';
import { createServer } from 'node:http';
import { constants, performServerHandshake, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { createWebSocketStream, WebSocket } from 'ws';
import { AgentHub } from '../../controller/agents/hub.ts';
import type { AgentReply } from '../../controller/agents/reply.ts';
import { agentToken } from '../../controller/agents/token.ts';
import { LANE_HEADER, LANES_HEADER } from '../../controller/agents/wire.ts';

const SECRET = 'a-secret-of-at-least-32-characters';
const SANDBOX = 's-odd-1';
const LENGTH = 100;

let url: string;
/** What the agent holds of the one request: it has dialed the lane, announced a body on it and sends nothing. */
let held: { id: string; stream: ServerHttp2Stream; lane: WebSocket };
let answer: AgentReply;

beforeEach(async () => {
  const hub = new AgentHub({
    secret: SECRET,
    liveSandbox: async () => ({ incarnation: 1, app: 'cell' }),
    log: pino({ level: 'silent' }),
  });
  const server = createServer();
  server.on('upgrade', (request, socket, head) => hub.handleUpgrade(request, socket, head));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1/agent`;
  const tunnel = dial({ [LANES_HEADER]: '1' });
  onTestFinished(() => {
    tunnel.terminate();
    hub.close();
    server.close();
  });
  tunnel.once('open', () => {
    const stream = createWebSocketStream(tunnel).on('error', () => {});
    performServerHandshake(stream)
      .on('error', () => {})
      .on('stream', hold);
  });
  const link = await hub.waitFor(SANDBOX, { timeoutMs: 5_000 });
  answer = await link.request({ method: 'GET', path: '/files?path=x', lane: true });
  onTestFinished(() => link.close('test'));
});

function dial(headers: Record<string, string>): WebSocket {
  const authorization = `Bearer ${agentToken(SECRET, SANDBOX)}`;
  return new WebSocket(url, { headers: { ...headers, authorization } }).on('error', () => {});
}

async function hold(stream: ServerHttp2Stream, headers: Record<string, unknown>): Promise<void> {
  stream.on('error', () => {});
  const id = String(headers[LANE_HEADER]);
  const lane = dial({ [LANE_HEADER]: id });
  await once(lane, 'open');
  held = { id, stream, lane };
  stream.respond({ ':status': 200, [LANE_HEADER]: LENGTH });
}

it('announces the length of a body on a lane', () => {
  expect([answer.status, answer.length]).toEqual([200, LENGTH]);
});

it('cancels the request of a lane whose reader has left, whatever the agent does', async () => {
  const closed = once(held.stream, 'close');
  answer.body.destroy();
  await Promise.all([closed, once(held.lane, 'close')]);
  expect(held.stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
});

it('ends a lane with its request', async () => {
  const broken = once(answer.body, 'data');
  held.stream.end();
  await expect(broken).rejects.toMatchObject({ code: 'agent_lost' });
  await once(held.lane, 'close');
});

it('breaks a lane off that carries no frames of a lane', async () => {
  const broken = once(answer.body, 'data');
  held.lane.send('text');
  await expect(broken).rejects.toMatchObject({ code: 'agent_lost' });
});

it('gives a lane to the first who dials it', async () => {
  const [, refusal] = await once(dial({ [LANE_HEADER]: held.id }), 'unexpected-response');
  expect(refusal.statusCode).toBe(404);
});
