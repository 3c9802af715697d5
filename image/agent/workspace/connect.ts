import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import tls from 'node:tls';

const CONNECT_TIMEOUT_MS = 10_000;

/** A connection to the URL's host, through the CONNECT proxy where there is one: `unix:/socket` or `http://host:port`. */
export async function connect(
  url: URL,
  proxyUrl: string | undefined,
  timeoutMs = CONNECT_TIMEOUT_MS,
): Promise<net.Socket> {
  const secure = url.protocol === 'https:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = Number(url.port) || (secure ? 443 : 80);
  const signal = AbortSignal.timeout(timeoutMs);
  const socket =
    proxyUrl === undefined
      ? await ready(net.connect({ host, port }), 'connect', signal)
      : await tunnel(proxyUrl, url.hostname, port, signal);
  if (!secure) return socket;
  const encrypted = tls.connect({ socket, servername: net.isIP(host) ? '' : host, host });
  return ready(encrypted, 'secureConnect', signal);
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
  proxyUrl: string,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<net.Socket> {
  const socketPath = /^unix:(?:\/\/)?(\/.+)$/.exec(proxyUrl)?.[1];
  const proxy = socketPath === undefined ? new URL(proxyUrl) : undefined;
  const request = http.request({
    ...(proxy === undefined ? { socketPath } : { host: proxy.hostname, port: proxy.port || 80 }),
    method: 'CONNECT',
    path: `${host}:${port}`,
    headers: { host: `${host}:${port}` },
    agent: false,
    signal,
  });
  request.end();
  const [response, socket] = (await once(request, 'connect')) as [http.IncomingMessage, net.Socket];
  if (response.statusCode === 200) return socket;
  socket.destroy();
  throw new Error(`the egress proxy refused ${host}:${port} with ${response.statusCode}`);
}
