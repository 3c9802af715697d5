import { once } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export type Target = { port: number } | { path: string };

/**
 * A piece of network that can be cut: bytes pass to the next of `targets` that takes the connection. Listens on a port of loopback, or
 * on a Unix socket.
 */
export class Gate {
  readonly #listen: { path: string } | undefined;
  #server: Server | undefined;
  #port = 0;
  #next = 0;
  #cut = false;
  readonly #sockets = new Set<Socket>();
  targets: Target[] = [];

  private constructor(path: string | undefined) {
    this.#listen = path === undefined ? undefined : { path };
  }

  static async open(path?: string): Promise<Gate> {
    const gate = new Gate(path);
    await gate.#start();
    return gate;
  }

  get port(): number {
    return this.#port;
  }

  /** Breaks every connection; new ones are taken and broken at once, as by a network that is gone. */
  cut(): void {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend(): void {
    this.#cut = false;
  }

  close(): void {
    this.cut();
    this.#server?.close();
    if (this.#listen !== undefined) rmSync(this.#listen.path, { force: true });
  }

  async #start(): Promise<void> {
    const server = createServer((socket) => this.#lead(socket, this.targets.length));
    server.on('error', () => {});
    if (this.#listen === undefined) server.listen(this.#port, '127.0.0.1');
    else {
      rmSync(this.#listen.path, { force: true });
      server.listen(this.#listen.path);
    }
    await once(server, 'listening');
    // A machine's root is another uid on the host; the folder keeps everybody else away.
    if (this.#listen !== undefined) chmodSync(this.#listen.path, 0o666);
    else this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  #lead(socket: Socket, tries: number): void {
    socket.on('error', () => socket.destroy());
    const target = this.targets[this.#next++ % this.targets.length];
    if (this.#cut || target === undefined || tries === 0) return void socket.destroy();
    const upstream = connect('port' in target ? { ...target, host: '127.0.0.1' } : target);
    let connected = false;
    upstream.on('error', () => (connected ? socket.destroy() : this.#lead(socket, tries - 1)));
    upstream.once('connect', () => {
      connected = true;
      if (this.#cut) socket.destroy();
      for (const one of [socket, upstream]) {
        this.#sockets.add(one);
        one.once('close', () => this.#sockets.delete(one));
      }
      socket.pipe(upstream).pipe(socket);
      socket.once('close', () => upstream.destroy());
      upstream.once('close', () => socket.destroy());
      if (socket.destroyed) upstream.destroy();
    });
  }
}
