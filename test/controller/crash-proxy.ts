import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Where a controller is to die: at its n-th request from now on or the first that looks so, before or after that had its effect. */
export interface CrashPoint {
  at: number | RegExp;
  when: 'before' | 'after';
}

/**
 * All that a controller can do to the world goes through here: once it has crashed, none of its requests gets through and no answer gets
 * back, as if its process had been killed at that very request.
 */
export class CrashProxy {
  /** The request it died at, e.g. `POST /rest/v1/rpc/sandbox_created`. */
  diedAt: string | undefined;
  /** Settles at the crash. */
  readonly crashed: Promise<void>;
  #calls = 0;
  #point: CrashPoint | undefined;
  #tell!: () => void;
  readonly #servers: Server[] = [];
  readonly #underway = new Set<Promise<unknown>>();

  constructor() {
    this.crashed = new Promise((resolve) => {
      this.#tell = resolve;
    });
  }

  /** From now on requests count. */
  arm(point: CrashPoint): void {
    this.#calls = 0;
    this.#point = point;
  }

  /** A URL that leads to `upstream` for as long as the controller lives. */
  async to(upstream: string): Promise<string> {
    const server = createServer((incoming, outgoing) => {
      if (this.diedAt !== undefined) return void incoming.destroy();
      this.#calls += 1;
      const isLast = this.#isLast(incoming);
      if (isLast && this.#point?.when === 'before') return this.#crash(incoming);
      const forwarded = request(
        new URL(incoming.url!, upstream),
        { method: incoming.method, headers: incoming.headers },
        (answer) => {
          if (isLast) this.#crash(incoming);
          if (this.diedAt !== undefined) return void answer.resume();
          outgoing.writeHead(answer.statusCode!, answer.headers);
          answer.pipe(outgoing);
        },
      );
      forwarded.on('error', () => incoming.destroy());
      const done = once(forwarded, 'close').finally(() => this.#underway.delete(done));
      this.#underway.add(done);
      incoming.once('close', () => {
        if (!incoming.complete) forwarded.destroy();
      });
      incoming.pipe(forwarded);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#servers.push(server);
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** What was sent before the crash has its effect, though nobody hears of it: resolves when that is over. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#underway);
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
    }
  }

  #isLast(incoming: IncomingMessage): boolean {
    const { at } = this.#point ?? {};
    return at instanceof RegExp ? at.test(called(incoming)) : this.#calls === at;
  }

  #crash(incoming: IncomingMessage): void {
    this.diedAt = called(incoming);
    for (const server of this.#servers) server.closeAllConnections();
    this.#tell();
  }
}

function called({ method, url }: IncomingMessage): string {
  return `${method} ${url?.split('?')[0]}`;
}
