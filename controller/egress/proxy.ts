import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';

/** How long a target may take to accept a connection. */
const CONNECT_TIMEOUT_MS = 10_000;

export interface EgressProxyOptions {
  /** A Unix socket, whose folder is bound into the machines, or a port on all addresses; 0 takes a free one. */
  listen: { socketPath: string } | { port: number };
  /** Whether a `Proxy-Authorization` may pass; who may not gets 407. Default: whoever reaches the socket may. */
  admit?: (authorization: string | undefined) => boolean;
  /** Exact `host:port` pairs that may be reached. Nothing else is, whatever its name resolves to. */
  allow: ReadonlySet<string>;
  log?: (line: string) => void;
}

export interface EgressProxy {
  /** Where it listens on a port. */
  port: number | undefined;
  close(): Promise<void>;
}

/**
 * The only way out of a sandbox besides the controller: a forward proxy that knows `CONNECT` and a list of names.
 * It refuses everything else with 403, and plain-HTTP proxying with 501.
 */
export async function startEgressProxy(options: EgressProxyOptions): Promise<EgressProxy> {
  const open = new Set<Socket>();
  const track = (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  };
  const server = createServer((_request, response) => {
    response.writeHead(501, { 'content-type': 'text/plain' }).end('this proxy only knows CONNECT\n');
  });
  server.on('connection', track);
  server.on('connect', (request, client: Socket, head: Buffer) => {
    client.on('error', () => client.destroy());
    if (options.admit?.(request.headers['proxy-authorization']) === false) {
      options.log?.('egress refused: no valid token of a sandbox');
      client.end(
        'HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n',
      );
      return;
    }
    const target = parseTarget(request.url ?? '');
    if (!target || !options.allow.has(`${target.host}:${target.port}`)) {
      options.log?.(`egress refused: ${JSON.stringify(request.url ?? '')}`);
      client.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    const upstream = connect({ host: target.host.replace(/^\[|\]$/g, ''), port: target.port });
    track(upstream);
    upstream.setTimeout(CONNECT_TIMEOUT_MS, () => upstream.destroy(new Error('connect timed out')));
    upstream.once('connect', () => {
      upstream.setTimeout(0);
      client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      if (head.length > 0) upstream.write(head);
      client.pipe(upstream).pipe(client);
    });
    upstream.on('error', () => {
      if (upstream.pending) client.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n');
      else client.destroy();
    });
    client.once('close', () => upstream.destroy());
  });
  await listen(server, options.listen);
  const address = server.address();
  return {
    port: address === null || typeof address === 'string' ? undefined : address.port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of open) socket.destroy();
      }),
  };
}

/** The port is parsed to a number once, so that `02280` can't pass for another port than the one that is dialed. */
export function parseTarget(authority: string): { host: string; port: number } | null {
  const match = /^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})$/.exec(authority);
  if (!match) return null;
  const port = Number(match[2]);
  if (port < 1 || port > 65_535) return null;
  return { host: match[1]!.toLowerCase(), port };
}

async function listen(server: Server, where: EgressProxyOptions['listen']): Promise<void> {
  const socketPath = 'socketPath' in where ? where.socketPath : undefined;
  if (socketPath !== undefined) rmSync(socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen('port' in where ? { port: where.port } : { path: socketPath }, resolve);
  });
  // A machine's root is another uid on the host; the folders on both sides keep everybody else away.
  if (socketPath !== undefined) chmodSync(socketPath, 0o666);
}
