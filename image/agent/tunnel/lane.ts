import { randomBytes } from 'node:crypto';
import http from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { laneStream } from '../../../controller/agents/lane-stream.ts';
import { LANE_HEADER } from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';

const HANDSHAKE_TIMEOUT_MS = 10_000;

/** Opens the lane of this id for the request that offers it. */
export type OpenLane = (id: string, request: ServerHttp2Stream) => Promise<Duplex>;

export function laneOpener(dialUrl: string, token: string): OpenLane {
  return async (id, request) => {
    const lane = await dialLane(dialUrl, token, id);
    // Whatever happens to the request, its lane does not outlive it.
    request.once('close', () => lane.destroy());
    if (request.closed) lane.destroy();
    return lane;
  };
}

function dialLane(dialUrl: string, token: string, id: string): Promise<Duplex> {
  const { client, options } = httpOf(dialUrl);
  const request = client.request({
    ...options,
    agent: false,
    timeout: HANDSHAKE_TIMEOUT_MS,
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': randomBytes(16).toString('base64'),
      authorization: `Bearer ${token}`,
      [LANE_HEADER]: id,
    },
  });
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new Fault('internal', `A lane could not be opened: ${why}`));
    request.once('upgrade', (_response, socket, head) => {
      socket.setTimeout(0);
      const broken = () => new Fault('invalid_request', 'The request was cut off');
      resolve(laneStream({ socket, head, dialed: true, broken }));
    });
    request.once('response', ({ statusCode }) => {
      request.destroy();
      fail(`the controller answered ${statusCode}`);
    });
    request.once('timeout', () => request.destroy(new Error(`no answer within ${HANDSHAKE_TIMEOUT_MS} ms`)));
    request.on('error', (error) => fail(error.message));
    request.end();
  });
}

/** Where a WebSocket URL leads, for a plain HTTP request: `ws:`, `wss:` or `ws+unix:/socket:/path`. */
function httpOf(dialUrl: string): { client: typeof http | typeof https; options: http.RequestOptions } {
  const { protocol, hostname, port, pathname, search } = new URL(dialUrl);
  if (protocol === 'ws+unix:') {
    const [socketPath, path] = pathname.split(':');
    return { client: http, options: { socketPath, path: `${path}${search}` } };
  }
  return {
    client: protocol === 'wss:' ? https : http,
    options: { host: hostname.replace(/^\[|\]$/g, ''), port, path: `${pathname}${search}` },
  };
}
