import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { Log } from './log.ts';
import type { MachineService } from './wire.ts';

/** A machine that takes connections now. */
export interface Reachable {
  /** IPv4 address at which this host reaches it. */
  address: string;
  services: readonly MachineService[];
}

export interface ProxyOptions {
  /** Of an app that may be gone. */
  addressesOf(app: string): string[];
  /** Services of all machines of the app, running or not. */
  servicesOf(app: string): MachineService[];
  reachableOf(app: string): Reachable[];
  log: Log;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** How long a caller waits for a machine that takes its connection. Fly's proxy retries, too. */
const PATIENCE_MS = 10_000;
const TRY_AGAIN_MS = 100;

/**
 * Fly's proxy on this computer: on each public address of an app, which is one of loopback here, it listens on the ports of its
 * machines' services and hands each connection to a machine that runs, one after another. Bytes alone: it ends no TLS, so that a
 * port with the handler `tls` is not listened on, and it adds no header.
 */
export class FlyProxy {
  readonly #options: ProxyOptions;
  /** By app, then by `address:port`. */
  readonly #listeners = new Map<string, Map<string, Server>>();
  readonly #sockets = new Set<Socket>();
  readonly #closing = new AbortController();
  #turn = 0;

  constructor(options: ProxyOptions) {
    this.#options = options;
  }

  /** To be called when an address, a machine or a service of the app has come, changed or gone. */
  follow(app: string): void {
    if (this.#closing.signal.aborted) return;
    const listeners = this.#listeners.get(app) ?? new Map<string, Server>();
    const wanted = this.#wanted(app);
    for (const [key, server] of listeners) {
      if (wanted.has(key)) continue;
      server.close();
      listeners.delete(key);
    }
    for (const [key, place] of wanted) {
      if (!listeners.has(key)) listeners.set(key, this.#listen(app, place));
    }
    if (listeners.size > 0) this.#listeners.set(app, listeners);
    else this.#listeners.delete(app);
  }

  close(): void {
    this.#closing.abort();
    for (const listeners of this.#listeners.values()) for (const server of listeners.values()) server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #wanted(app: string): Map<string, { host: string; port: number }> {
    const hosts = this.#options.addressesOf(app).filter(isLoopback);
    if (hosts.length === 0) return new Map(); // The usual case, and asked for at every change of a machine.
    const ports = [...new Set(this.#options.servicesOf(app).flatMap(plainPorts))];
    return new Map(
      hosts.flatMap((host) =>
        ports.map((port): [string, { host: string; port: number }] => [`${host}:${port}`, { host, port }]),
      ),
    );
  }

  #listen(app: string, { host, port }: { host: string; port: number }): Server {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      this.#sockets.add(client);
      client.once('close', () => this.#sockets.delete(client));
      void this.#serve(app, port, client).catch(() => client.destroy()); // Either side has broken off.
    });
    server.on('error', (error) =>
      this.#options.log(`Nothing listens on ${host}:${port} for ${app}: ${error.message}`),
    );
    return server.listen({ host, port });
  }

  async #serve(app: string, port: number, client: Socket): Promise<void> {
    client.on('error', () => {});
    const machine = await this.#reach(app, port, client);
    if (!machine) return void client.destroy();
    this.#sockets.add(machine);
    machine.once('close', () => this.#sockets.delete(machine));
    await pipeline(client, machine, client);
  }

  /** A connection to one of the app's machines; tries the next one where one refuses. */
  async #reach(app: string, port: number, client: Socket): Promise<Socket | undefined> {
    const patience = AbortSignal.any([AbortSignal.timeout(PATIENCE_MS), this.#closing.signal]);
    while (!patience.aborted && !client.destroyed) {
      const targets = this.#options.reachableOf(app).flatMap(({ address, services }) => {
        const service = services.find(({ ports }) => ports.some((one) => one.port === port));
        return service ? [{ host: address, port: service.internal_port }] : [];
      });
      const first = this.#turn++;
      for (let index = 0; index < targets.length; index++) {
        const socket = await dial(targets[(first + index) % targets.length]!);
        if (socket) return socket;
      }
      await pause(TRY_AGAIN_MS, undefined, { signal: patience }).catch(() => {});
    }
    return undefined;
  }
}

async function dial(target: { host: string; port: number }): Promise<Socket | undefined> {
  const socket = connect({ ...target, allowHalfOpen: true });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(CONNECT_TIMEOUT_MS) });
    return socket;
  } catch {
    socket.destroy();
    return undefined;
  }
}

function plainPorts({ ports }: MachineService): number[] {
  return ports.filter(({ handlers }) => !handlers?.includes('tls')).map(({ port }) => port);
}

const isLoopback = (address: string) => address.startsWith('127.');
