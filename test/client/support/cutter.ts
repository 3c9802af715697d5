import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** Stands between SDK and API and breaks connections. */
export class Cutter {
  readonly url: string;
  /** Resets a connection after so many bytes of answers. */
  cutEvery = Number.POSITIVE_INFINITY;
  cuts = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #next: { when: 'before-request' | 'after-request'; then?: () => Promise<void> } | undefined;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('connection', (client) => this.#join(client, connect(target, '127.0.0.1')));
  }

  static async start(target: number): Promise<Cutter> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Cutter(server, target);
  }

  /** The next request is lost on its way, or its answer is. */
  cutNext(when: 'before-request' | 'after-request', then?: () => Promise<void>): void {
    this.#next = { when, ...(then && { then }) };
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(client: Socket, target: Socket): void {
    let answered = 0;
    const cut = () => {
      this.cuts++;
      client.resetAndDestroy();
      target.resetAndDestroy();
    };
    for (const socket of [client, target]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        target.destroy();
      });
    }
    client.on('data', async (data) => {
      const next = this.#next;
      if (next?.when === 'before-request') {
        this.#next = undefined;
        await next.then?.();
        return cut();
      }
      target.write(data);
    });
    target.on('data', async (data) => {
      const next = this.#next;
      if (next?.when === 'after-request') {
        this.#next = undefined;
        await next.then?.();
        return cut();
      }
      answered += data.length;
      if (answered > this.cutEvery) return cut();
      if (!client.write(data)) {
        target.pause();
        client.once('drain', () => target.resume());
      }
    });
  }
}
