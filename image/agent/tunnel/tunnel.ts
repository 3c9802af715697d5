import type { WebSocket } from 'ws';
import type { Router } from '../http/router.ts';
import { log, messageOf } from '../log.ts';
import { redialDelay } from './backoff.ts';
import { dial } from './dial.ts';
import { watch } from './watch.ts';

export interface TunnelOptions {
  url: string;
  token: string;
  /** Said with each dial. */
  headers?: Record<string, string>;
  orphanTimeoutMs: number;
  /** Loaded while the first dial is under way, so that the link is not kept waiting for code. */
  router: Promise<Router>;
  now: () => number;
  random: () => number;
  /** No controller was reached for `orphanTimeoutMs`. */
  onOrphaned: () => void;
}

/** Keeps one link to the controller: dials, serves, dials again. */
export class Tunnel {
  readonly #options: TunnelOptions;
  #socket: WebSocket | undefined;
  #closed = false;
  #wake: () => void = () => {};

  constructor(options: TunnelOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { url, token, headers, now, random } = this.#options;
    const serving = import('./serve.ts');
    let orphaned = this.#countDown();
    for (let attempt = 0; !this.#closed; attempt += 1) {
      try {
        const socket = await dial(url, token, headers);
        this.#socket = socket;
        clearTimeout(orphaned);
        socket.once('close', () => {
          orphaned = this.#countDown();
        });
        if (this.#closed) socket.terminate();
        watch(socket, now);
        const [{ serve }, router] = await Promise.all([serving, this.#options.router]);
        await serve(socket, router);
        attempt = 0;
        log('info', 'tunnel closed by the other side');
      } catch (error) {
        log('warn', 'tunnel failed', { attempt, detail: messageOf(error) });
      }
      if (!this.#closed) await this.#pause(redialDelay(attempt, random));
    }
    clearTimeout(orphaned);
  }

  close(): void {
    this.#closed = true;
    this.#wake();
    this.#socket?.close(1001);
  }

  #countDown(): NodeJS.Timeout {
    return setTimeout(this.#options.onOrphaned, this.#options.orphanTimeoutMs);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
