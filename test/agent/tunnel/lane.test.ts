import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, request } from 'node:http';
import { join } from 'node:path';
import { type Duplex, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { AgentHub } from '../../../controller/agents/hub.ts';
import { laneAccepted } from '../../../controller/agents/lane-stream.ts';
import type { AgentLink } from '../../../controller/agents/link.ts';
import { agentToken } from '../../../controller/agents/token.ts';
import { LANE_HEADER } from '../../../controller/agents/wire.ts';
import { FakeAgent } from '../../controller/fake-agent.ts';
import { Rig, until } from '../rig.ts';

const SECRET = 'a-secret-of-at-least-32-characters';
const SANDBOX = 's-test-1';
const BIG = randomBytes(5_000_000);

/** The controller's own hub, and the agent as it is. */
let rig: Rig;
let hub: AgentHub;
let link: AgentLink;
let close: () => void;
/** The upgrades of lanes so far, and their sockets. */
let lanes: { request: IncomingMessage; socket: Duplex }[];
let path: string;
/** Comes before the hub sees the upgrade of a lane, which it does not when this is false. */
let beforeLane: (request: IncomingMessage, socket: Duplex) => Promise<boolean>;

beforeEach(async () => {
  rig = await Rig.idle();
  lanes = [];
  beforeLane = async () => true;
  hub = new AgentHub({
    secret: SECRET,
    liveSandbox: async () => ({ incarnation: 1, app: 'cell' }),
    log: pino({ level: 'silent' }),
  });
  const server = createServer();
  server.on('upgrade', async (request, socket, head) => {
    if (LANE_HEADER in request.headers && request.headers.authorization?.includes(SANDBOX)) {
      lanes.push({ request, socket });
      if (!(await beforeLane(request, socket))) return;
    }
    hub.handleUpgrade(request, socket, head);
  });
  path = join(rig.dir, 'hub.sock');
  server.listen(path);
  await once(server, 'listening');
  chmodSync(path, 0o666);
  close = () => {
    hub.close();
    server.close();
  };
  mkdirSync(rig.workspace, { recursive: true });
  rig.launch({
    MOBVIBE_AGENT_DIAL_URL: `ws+unix:${path}:/v1/agent`,
    MOBVIBE_AGENT_TOKEN: agentToken(SECRET, SANDBOX),
  });
  link = await hub.waitFor(SANDBOX, { timeoutMs: 10_000 });
});
afterEach(async () => {
  close();
  await rig[Symbol.asyncDispose]();
});

const at = (path: string) => join(rig.workspace, path);
const get = (query: string, lane = true) => link.request({ method: 'GET', path: `/files?${query}`, lane });
const put = (query: string, body: Readable) =>
  link.request({ method: 'PUT', path: `/files?${query}`, body, lane: true });

describe('reading', () => {
  test('a large file comes on a lane, a small one or a part does not', async () => {
    writeFileSync(at('big'), BIG);
    const answer = await get('path=big');
    expect(answer.length).toBe(BIG.length);
    expect((await buffer(answer.body)).equals(BIG)).toBe(true);
    expect(lanes).toHaveLength(1);
    const part = await get('path=big&offset=100&length=5');
    expect([part.length, await buffer(part.body)]).toEqual([5, BIG.subarray(100, 105)]);
    const most = await get('path=big&offset=100');
    expect((await buffer(most.body)).equals(BIG.subarray(100))).toBe(true);
    expect(lanes).toHaveLength(2);
    const without = await get('path=big', false);
    expect((await buffer(without.body)).equals(BIG)).toBe(true);
    expect(lanes).toHaveLength(2);
  });

  test('what is not there is answered without a lane', async () => {
    await expect((await get('path=none')).expect()).rejects.toMatchObject({ code: 'file_not_found' });
    expect(lanes).toHaveLength(0);
  });

  test.each([
    ['the lane', () => lanes[0]!.socket.destroy()],
    ['the tunnel', () => link.close('test')],
    ['the file', () => truncateSync(at('big'), 100)],
  ])('breaks off with agent_lost when %s does', async (_what, cut) => {
    writeFileSync(at('big'), '');
    truncateSync(at('big'), 1 << 30);
    const { body } = await get('path=big');
    await expect(
      (async () => {
        let first = true;
        for await (const _part of body) {
          if (first) cut();
          first = false;
        }
      })(),
    ).rejects.toMatchObject({ code: 'agent_lost' });
  });

  test('a reader that leaves frees the lane and the file, a reader that stalls stops the agent', async () => {
    writeFileSync(at('big'), '');
    truncateSync(at('big'), 1 << 30);
    const opened = () =>
      readdirSync(`/proc/${rig.agent.pid}/fd`).filter((fd) => isBig(`/proc/${rig.agent.pid}/fd/${fd}`));
    const { body } = await get('path=big');
    await once(body, 'readable');
    const { socket } = lanes[0]!;
    await until(() => socket.isPaused());
    expect(body.readableLength).toBeLessThan(2 << 20);
    expect(opened()).toHaveLength(1);
    body.destroy();
    await until(() => opened().length === 0);
    expect(socket.destroyed).toBe(true);
    expect((await get('path=none')).status).toBe(404);
  });
});

describe('writing', () => {
  test('a body on a lane is written whole', async () => {
    const body = Readable.from([BIG.subarray(0, 10), BIG.subarray(10, 3_000_000), BIG.subarray(3_000_000)]);
    expect(await (await put('path=new/big', body)).expect()).toMatchObject({ size: BIG.length });
    expect(readFileSync(at('new/big')).equals(BIG)).toBe(true);
    expect(lanes).toHaveLength(1);
    expect(await (await put('path=none', Readable.from([]))).expect()).toMatchObject({ size: 0 });
    await until(() => lanes.every(({ socket }) => socket.destroyed));
  });

  test('a body that is not wanted is answered without a lane', async () => {
    mkdirSync(at('folder'));
    const answer = await put('path=folder', Readable.from([BIG]));
    await expect(answer.expect()).rejects.toMatchObject({ code: 'not_a_file' });
    expect(lanes).toHaveLength(0);
  });

  test.each([
    ['its source', (body: Readable) => body.destroy(new Error('the source broke')), 'The connection broke'],
    ['the lane', () => lanes[0]!.socket.destroy(), 'The request was cut off'],
    ['the tunnel', () => link.close('test'), 'The connection broke'],
  ])('leaves the old file when %s breaks', async (_what, cut, message) => {
    writeFileSync(at('file'), 'old');
    const body = new Readable({ read() {} });
    body.push(BIG);
    const answered = put('path=file', body).then((answer) => answer.expect());
    answered.catch(() => {});
    await until(() => lanes.length === 1 && readdirSync(rig.workspace).length === 2);
    cut(body);
    await expect(answered).rejects.toThrow(message);
    await until(() => readdirSync(rig.workspace).length === 1);
    expect(readFileSync(at('file'), 'utf8')).toBe('old');
  });
});

test('a source that breaks before its lane is dialed fails the request, and nothing else', async () => {
  const body = new Readable({ read() {} });
  const answered = put('path=file', body);
  body.destroy(new Error('the source broke'));
  await expect(answered).rejects.toMatchObject({
    code: 'agent_lost',
    cause: { message: 'the source broke' },
  });
  expect(link.connected).toBe(true);
  await until(() => readdirSync(rig.workspace).length === 0);
});

test('the agent closes a lane when its request ends, even when nobody else does', async () => {
  beforeLane = async ({ headers }, socket) => {
    socket.write(laneAccepted(String(headers['sec-websocket-key'])));
    return false;
  };
  const gone = new AbortController();
  const body = new Readable({ read() {} });
  const asked = link.request({
    method: 'PUT',
    path: '/files?path=a',
    body,
    lane: true,
    signal: gone.signal,
  });
  await until(() => lanes.length === 1);
  gone.abort(new Error('gone'));
  await expect(asked).rejects.toThrow('gone');
  await once(lanes[0]!.socket.resume(), 'end');
});

test('a lane is for the agent that it was offered to', async () => {
  const dial = async (sandbox: string, id: string): Promise<number | undefined> => {
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': 'x',
      authorization: `Bearer ${agentToken(SECRET, sandbox)}`,
      [LANE_HEADER]: id,
    };
    const outgoing = request({ socketPath: path, path: '/v1/agent', headers, agent: false }).end();
    const [answer] = await Promise.race([once(outgoing, 'response'), once(outgoing, 'upgrade')]);
    return answer.statusCode;
  };
  const other = new FakeAgent(`ws+unix:${path}:/v1/agent`, agentToken(SECRET, 's-other-1')).start();
  onTestFinished(() => other.stop());
  await hub.waitFor('s-other-1', { timeoutMs: 10_000 });
  let foreign: number | undefined;
  beforeLane = async ({ headers }) => {
    foreign = await dial('s-other-1', String(headers[LANE_HEADER]));
    return true;
  };
  writeFileSync(at('big'), BIG);
  const { body } = await get('path=big');
  expect(foreign).toBe(404);
  expect((await buffer(body)).equals(BIG)).toBe(true);
});

function isBig(link: string): boolean {
  try {
    return readlinkSync(link).endsWith('/big');
  } catch {
    return false;
  }
}
