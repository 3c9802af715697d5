import type { ServerHttp2Stream } from 'node:http2';
import { drained } from './drained.ts';

/** An answer of one JSON value a line. */
export class Lines {
  readonly #stream: ServerHttp2Stream;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    stream.respond({ ':status': 200, 'content-type': 'application/x-ndjson' });
  }

  get closed(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  /** False: the peer takes no more for now, await `drained` before the next one. */
  write(value: unknown): boolean {
    return this.#stream.write(`${JSON.stringify(value)}\n`);
  }

  /** Settles when there is room again or nobody reads any more. */
  drained(): Promise<void> {
    return drained(this.#stream);
  }

  onClose(listener: () => void): void {
    this.#stream.once('close', listener);
  }

  end(value?: unknown): void {
    if (this.closed) return;
    if (value === undefined) this.#stream.end();
    else this.#stream.end(`${JSON.stringify(value)}\n`);
  }
}
