import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { agentToken } from '../../controller/agents/token.ts';
import { egressProbeUrl, probeEgress } from '../../controller/egress/probe.ts';
import { type EgressProxy, parseTarget, startEgressProxy } from '../../controller/egress/proxy.ts';
import { readEgressSettings } from '../../controller/egress/settings.ts';
import { ConfigError } from '../../controller/knobs.ts';

let folder: string;
let target: Server;
let port: number;
let socketPath: string;
let proxy: EgressProxy;
let refused: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mobvibe-egress-'));
  target = createServer((_request, response) => void response.end('reached'));
  await new Promise<void>((resolve) => target.listen(0, '127.0.0.1', resolve));
  port = (target.address() as AddressInfo).port;
  socketPath = join(folder, 'egress.sock');
  refused = [];
  proxy = await startEgressProxy({
    listen: { socketPath },
    allow: new Set([`127.0.0.1:${port}`]),
    log: (line) => refused.push(line),
  });
});

afterEach(async () => {
  await proxy.close();
  target.closeAllConnections();
  target.close();
  await rm(folder, { recursive: true });
});

/** Asks the proxy for a tunnel and, when there is one, for `/` at its other end. */
function through(
  authority: string,
  where: { socketPath: string } | { port: number } = { socketPath },
  headers: Record<string, string> = {},
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const connect = request({ ...where, host: '127.0.0.1', method: 'CONNECT', path: authority, headers });
    connect.once('error', reject);
    connect.once('response', (response) => resolve({ status: response.statusCode ?? 0, body: '' }));
    connect.once('connect', (response, socket: Socket) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        resolve({ status: response.statusCode ?? 0, body: '' });
        return;
      }
      let text = '';
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      socket.once('close', () => resolve({ status: 200, body: text.split('\r\n\r\n')[1] ?? '' }));
      socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    });
    connect.end();
  });
}

describe('the egress proxy', () => {
  test('tunnels to what is on the list', async () => {
    expect(await through(`127.0.0.1:${port}`)).toMatchObject({
      status: 200,
      body: expect.stringContaining('reached'),
    });
  });

  test.each(['localhost', '127.0.0.2', '[::1]'])('refuses %s, which is not on it', async (host) => {
    expect((await through(`${host}:${port}`)).status).toBe(403);
    expect(refused).toHaveLength(1);
  });

  test('refuses another port of a host that is on it', async () => {
    expect((await through(`127.0.0.1:${port === 65_535 ? 1 : port + 1}`)).status).toBe(403);
  });

  test('does not forward plain HTTP', async () => {
    const status = await new Promise<number>((resolve, reject) => {
      request({ socketPath, path: `http://127.0.0.1:${port}/` }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
        .once('error', reject)
        .end();
    });
    expect(status).toBe(501);
  });

  test('says that a target on the list does not answer', async () => {
    target.closeAllConnections();
    await new Promise((resolve) => target.close(resolve));
    expect((await through(`127.0.0.1:${port}`)).status).toBe(502);
    await new Promise<void>((resolve) => target.listen(port, '127.0.0.1', resolve));
  });
});

describe('on a port, which user code reaches as its agent does', () => {
  const secret = 'a secret of thirty-two characters.';
  let guarded: EgressProxy;

  beforeEach(async () => {
    const env = { MOBVIBE_EGRESS_LISTEN_PORT: '0', MOBVIBE_AGENT_SECRET: secret.replaceAll(' ', '_') };
    guarded = await startEgressProxy(
      readEgressSettings({ ...env, MOBVIBE_EGRESS_ALLOW: `127.0.0.1:${port}` }),
    );
  });

  afterEach(() => guarded.close());

  const ask = (headers: Record<string, string>) =>
    through(`127.0.0.1:${port}`, { port: guarded.port! }, headers);

  test('an agent passes with the token of its sandbox', async () => {
    const token = agentToken(secret.replaceAll(' ', '_'), 's-mine-1');
    expect(await ask({ 'proxy-authorization': `Bearer ${token}` })).toMatchObject({ status: 200 });
  });

  test.each([
    ['nothing', {}],
    [
      'a token of another secret',
      { 'proxy-authorization': `Bearer ${agentToken('x'.repeat(32), 's-mine-1')}` },
    ],
    ['another scheme', { 'proxy-authorization': 'Basic czpw' }],
  ])('whoever shows %s gets 407', async (_what, headers) => {
    expect((await ask(headers)).status).toBe(407);
  });
});

describe('its settings', () => {
  const allow = { MOBVIBE_EGRESS_ALLOW: 'db.example:443' };

  test.each([
    ['MOBVIBE_EGRESS_ALLOW', {}],
    ['MOBVIBE_EGRESS_ALLOW', { MOBVIBE_EGRESS_ALLOW: 'db.example', MOBVIBE_EGRESS_LISTEN_PORT: '1' }],
    ['MOBVIBE_EGRESS_LISTEN_PORT', allow],
    ['MOBVIBE_EGRESS_LISTEN_PORT', { ...allow, MOBVIBE_EGRESS_LISTEN_PORT: 'http' }],
    [
      'both set',
      { ...allow, MOBVIBE_EGRESS_LISTEN_PORT: '3128', MOBVIBE_EGRESS_LISTEN_SOCKET: '/run/egress.sock' },
    ],
    ['MOBVIBE_AGENT_SECRET', { ...allow, MOBVIBE_EGRESS_LISTEN_PORT: '3128' }],
    ['MOBVIBE_AGENT_SECRET', { ...allow, MOBVIBE_EGRESS_LISTEN_PORT: '3128', MOBVIBE_AGENT_SECRET: 'short' }],
  ])('a mistake names %s', (variable, env) => {
    expect(() => readEgressSettings(env)).toThrow(ConfigError);
    expect(() => readEgressSettings(env)).toThrow(variable);
  });
});

describe('a target', () => {
  test.each([
    ['example.com:443', { host: 'example.com', port: 443 }],
    ['EXAMPLE.com:0443', { host: 'example.com', port: 443 }],
    ['[::1]:80', { host: '[::1]', port: 80 }],
  ])('%s is understood', (authority, expected) => {
    expect(parseTarget(authority)).toEqual(expected);
  });

  test.each([
    '',
    'example.com',
    'example.com:',
    'example.com:0',
    'example.com:65536',
    'a b:80',
    'user@host:80',
    'h:80/x',
    'h:8e1',
  ])('%j is refused', (authority) => {
    expect(parseTarget(authority)).toBeNull();
  });
});

describe('the probe of a controller', () => {
  test('is content with any answer of the proxy, and with nothing else', async () => {
    const signal = AbortSignal.timeout(5_000);
    await probeEgress(`unix:${socketPath}`, signal);
    await using onPort = await disposable(startEgressProxy({ listen: { port: 0 }, allow: new Set() }));
    await probeEgress(`http://127.0.0.1:${onPort.port}`, signal);
    await expect(probeEgress(`unix:${socketPath}.none`, signal)).rejects.toMatchObject({ code: 'ENOENT' });
    const mute = createServer();
    mute.on('request', () => {});
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
    const { port: mutePort } = mute.address() as AddressInfo;
    const soon = AbortSignal.timeout(50);
    await expect(probeEgress(`http://127.0.0.1:${mutePort}`, soon)).rejects.toMatchObject({
      name: 'AbortError',
    });
    mute.closeAllConnections();
    mute.close();
  });

  test('asks where it is told to, else where machines do, unless that is a socket inside them', () => {
    const [probe, http, socket] = ['unix:/here.sock', 'http://egress:2280', 'unix:/in/machines.sock'];
    const url = (own: string | undefined, machines: string | undefined) =>
      egressProbeUrl({ egressProbeUrl: own, egressProxyUrl: machines });
    expect([url(probe, http), url(undefined, http)]).toEqual([probe, http]);
    expect([url(undefined, socket), url(undefined, undefined)]).toEqual([undefined, undefined]);
  });
});

async function disposable(starting: Promise<EgressProxy>) {
  const started = await starting;
  return { port: started.port, [Symbol.asyncDispose]: () => started.close() };
}
