import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';

const CONNECT_TIMEOUT_MS = 10_000;

/** The way out of the machine: a CONNECT proxy. */
export interface EgressProxy {
  /** `unix:/socket` or `http://host:port`. */
  url: string;
  /** The agent's own: user code reaches the proxy too, but has nothing to show. */
  token: string;
}

/** A connection to the URL's host, through the proxy where there is one. */
export async function connect(
  url: URL,
  proxy: EgressProxy | undefined,
  timeoutMs = CONNECT_TIMEOUT_MS,
): Promise<net.Socket> {
  const secure = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = Number(url.port) || (secure ? 443 : 80);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const socket =
      proxy === undefined
        ? await ready(net.connect({ host, port }), 'connect', signal)
        : await tunnel(proxy, url.hostname, port, signal);
    if (!secure) return socket;
    const encrypted = tls.connect({ socket, servername: net.isIP(host) ? '' : host, host });
    return await ready(encrypted, 'secureConnect', signal);
  } catch (error) {
    // Node says no more than "The operation was aborted".
    if (!signal.aborted) throw error;
    const way = proxy === undefined ? '' : ' through the egress proxy';
    throw new Error(`no connection to ${host}:${port}${way} within ${timeoutMs} ms`, { cause: error });
  }
}

async function ready(socket: net.Socket, event: string, signal: AbortSignal): Promise<net.Socket> {
  try {
    await once(socket, event, { signal });
    return socket;
  } catch (error) {
    // Nobody listens to it any more: an error that it has yet to tell would end the agent.
    socket.on('error', () => {}).destroy();
    throw error;
  }
}

async function tunnel(
  { url, token }: EgressProxy,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<net.Socket> {
  const socketPath = /^unix:(?:\/\/)?(\/.+)$/.exec(url)?.[1];
  const address = socketPath === undefined ? new URL(url) : undefined;
  const request = http.request({
    ...(address === undefined ? { socketPath } : { host: address.hostname, port: address.port || 80 }),
    method: 'CONNECT',
    path: `${host}:${port}`,
    headers: { host: `${host}:${port}`, 'proxy-authorization': `Bearer ${token}` },
    agent: false,
    signal,
  });
  request.end();
  const [response, socket, head] = (await once(request, 'connect')) as [
    http.IncomingMessage,
    net.Socket,
    Buffer,
  ];
  if (response.statusCode === 200) {
    // What the other end said at once came with the proxy's answer.
    if (head.length > 0) socket.unshift(head);
    return socket;
  }
  socket.destroy();
  throw new Error(`the egress proxy refused ${host}:${port} with ${response.statusCode}`);
}
