import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import type Docker from 'dockerode';

export interface HostPorts {
  close(): void;
}

/**
 * Lets machines with a way out reach these ports of the host's loopback as `host.docker.internal`: what listens on loopback alone, such
 * as local Fly itself, is out of a container's reach otherwise. Whoever else is on one of Docker's bridges may use them, too.
 */
export async function openHostPorts(
  docker: Docker,
  ports: readonly number[],
  log: (message: string) => void,
): Promise<HostPorts> {
  const sockets = new Set<Socket>();
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
    return socket;
  };
  const host = ports.length > 0 ? await hostGateway(docker) : undefined;
  const servers: Server[] = [];
  for (const port of host === undefined ? [] : ports) {
    const server = createServer({ allowHalfOpen: true }, (caller) => {
      const service = keep(connect({ host: '127.0.0.1', port, allowHalfOpen: true }));
      pipeline(keep(caller), service, caller).catch(() => {}); // Either side has broken off.
    });
    try {
      await once(server.listen({ host, port }), 'listening');
      servers.push(server);
    } catch (error) {
      log(
        `Machines don't reach port ${port} of this host as host.docker.internal: ${(error as Error).message}`,
      );
    }
  }
  return {
    close() {
      for (const server of servers) server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** What Docker writes for `host-gateway`: the host's address on the default bridge, the first of it where no other is told. */
async function hostGateway(docker: Docker): Promise<string | undefined> {
  const { IPAM } = await docker.getNetwork('bridge').inspect();
  const { Gateway, Subnet } = IPAM?.Config?.[0] ?? {};
  return Gateway || Subnet?.replace(/(\d+)\/\d+$/, (_, last) => String(Number(last) + 1));
}
