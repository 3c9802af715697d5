import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect, type Socket } from 'node:net';

/** How long a target may take to accept a connection. */
const CONNECT_TIMEOUT_MS = 10_000;

export interface EgressProxyOptions {
  /** Unix socket to listen on; its folder is bound into the machines. */
  socketPath: string;
  /** Exact `host:port` pairs that may be reached. Nothing else is, whatever its name resolves to. */
  allow: ReadonlySet<string>;
  log?: (line: string) => void;
}

/**
 * The only way out of a local machine besides the controller: a forward proxy that knows `CONNECT` and a list of names.
 * It refuses everything else with 403, and plain-HTTP proxying with 501.
 */
export async function startEgressProxy(options: EgressProxyOptions): Promise<{ close(): Promise<void> }> {
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
  await listen(server, options.socketPath);
  return {
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

async function listen(server: Server, socketPath: string): Promise<void> {
  rmSync(socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, resolve);
  });
  // A machine's root is another uid on the host; the folders on both sides keep everybody else away.
  chmodSync(socketPath, 0o666);
}
