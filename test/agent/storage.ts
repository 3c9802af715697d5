import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Objects by name behind URLs that stand for signed ones. */
export class Storage implements AsyncDisposable {
  readonly objects = new Map<string, Buffer>();
  readonly requests: string[] = [];
  /** Takes a request over before it is answered; true when it has been. */
  intercept: (req: IncomingMessage, res: ServerResponse) => boolean = () => false;
  readonly #server = createServer((req, res) => {
    // Whoever sends may break off.
    this.#answer(req, res).catch(() => res.destroy());
  });

  static async start(): Promise<Storage> {
    const storage = new Storage();
    storage.#server.listen(0, '127.0.0.1');
    await once(storage.#server, 'listening');
    return storage;
  }

  url(name: string): string {
    const { port } = this.#server.address() as AddressInfo;
    return `http://127.0.0.1:${port}/object/${name}?token=secret`;
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const name = new URL(req.url!, 'http://storage').pathname.split('/').pop()!;
    this.requests.push(`${req.method} ${name}`);
    if (this.intercept(req, res)) return;
    if (req.method === 'PUT') {
      const parts: Buffer[] = [];
      for await (const part of req) parts.push(part);
      if (this.objects.has(name)) {
        res.writeHead(400, { 'content-type': 'application/json' });
        res.end(JSON.stringify({ statusCode: '409', error: 'Duplicate', code: 'KeyAlreadyExists' }));
        return;
      }
      this.objects.set(name, Buffer.concat(parts));
      res.end(JSON.stringify({ Key: name }));
      return;
    }
    const object = this.objects.get(name);
    if (object === undefined) {
      res.writeHead(400, { 'content-type': 'application/json' });
      res.end(JSON.stringify({ statusCode: '404', error: 'not_found', code: 'NoSuchKey' }));
      return;
    }
    res.end(object);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
