import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Fault } from '../fault.ts';
import type { OpenLane } from '../tunnel/lane.ts';
import { Call } from './call.ts';

export type Handler = (call: Call) => void | Promise<void>;

/** Routes by method and path; one segment of a path may be left open as `:id`. */
export class Router {
  readonly #handlers = new Map<string, Handler>();
  readonly #openLane: OpenLane;
  readonly #sealed: AbortSignal;

  /** `sealed` is aborted when nothing may change any more, and so nothing is taken that would be for a change. */
  constructor(openLane: OpenLane, sealed: AbortSignal = new AbortController().signal) {
    this.#openLane = openLane;
    this.#sealed = sealed;
  }

  on(method: string, pattern: string, handler: Handler): this {
    this.#handlers.set(`${method} ${pattern}`, handler);
    return this;
  }

  handle(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    // A peer that goes away is no error of ours; whoever waits on the stream sees its 'close'.
    stream.on('error', () => {});
    const target = String(headers[':path']);
    const mark = target.indexOf('?');
    const path = mark < 0 ? target : target.slice(0, mark);
    const query = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1));
    const method = String(headers[':method']);
    const { handler, id } = this.#find(method, path);
    const call = new Call(stream, headers, { path, query, id }, this.#openLane, this.#sealed);
    if (handler === undefined) {
      call.fail(new Fault('route_not_found', `There is no ${method} ${path}`));
      return;
    }
    try {
      handler(call)?.catch((error: unknown) => call.fail(error));
    } catch (error) {
      call.fail(error);
    }
  }

  #find(method: string, path: string): { handler: Handler | undefined; id: string } {
    const plain = this.#handlers.get(`${method} ${path}`);
    if (plain !== undefined) return { handler: plain, id: '' };
    const parts = path.split('/');
    const id = parts[2] ?? '';
    parts[2] = ':id';
    return { handler: this.#handlers.get(`${method} ${parts.join('/')}`), id };
  }
}
