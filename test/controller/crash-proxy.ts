import { once } from 'node:events';
import { createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

/** Where a controller is to die: at its `call`-th request from now on, before or after that had its effect. */
export interface CrashPoint {
  call: number;
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
      const isLast = this.#calls === this.#point?.call;
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

  #crash(incoming: { method?: string; url?: string; destroy(): void }): void {
    this.diedAt = `${incoming.method} ${incoming.url?.split('?')[0]}`;
    for (const server of this.#servers) server.closeAllConnections();
    this.#tell();
  }
}
