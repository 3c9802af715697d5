import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface Recorder {
  url: string;
  /** `POST /v1/apps` and the like, in order of arrival. */
  writes: string[];
  /** Answers the next request whose `METHOD path` matches with this status instead of passing it on. */
  failNext(pattern: RegExp, status: number): void;
  /** Passes the next one on, and loses its answer. */
  loseAnswerOf(pattern: RegExp): void;
  /** Passes the next one on and keeps its answer back; resolves when what it asked for is done. */
  holdAnswerOf(pattern: RegExp): Promise<void>;
  /** From now on each write fails when it comes for the first time: with this status, or done and its answer lost. */
  failEachOnce(how: number | 'lost'): { failed: ReadonlySet<string>; end(): void };
  close(): Promise<void>;
}

/** Stands before local Fly, notes what would change something, and lets a call fail. */
export async function startRecorder(target: string): Promise<Recorder> {
  const writes: string[] = [];
  const faults: { pattern: RegExp; status: number | 'lost' | (() => void) }[] = [];
  let each: { how: number | 'lost'; failed: Set<string> } | undefined;
  const firstTime = (method: string, line: string) => {
    if (each === undefined || method === 'GET' || each.failed.has(line)) return undefined;
    each.failed.add(line);
    return each.how;
  };
  const server = createServer((incoming, outgoing) => {
    const line = `${incoming.method} ${incoming.url!.split('?')[0]}`;
    if (incoming.method !== 'GET') writes.push(line);
    const at = faults.findIndex(({ pattern }) => pattern.test(line));
    const fault = at < 0 ? firstTime(incoming.method!, line) : faults.splice(at, 1)[0]!.status;
    if (typeof fault === 'number') {
      incoming.resume();
      outgoing
        .writeHead(fault, { 'content-type': 'application/json' })
        .end('{"error":"made to fail by a test"}');
      return;
    }
    const passed = request(new URL(incoming.url!, target), {
      method: incoming.method,
      headers: incoming.headers,
    });
    passed.on('response', (answer) => {
      if (fault === 'lost') {
        answer.resume().once('end', () => incoming.socket.destroy());
        return;
      }
      if (typeof fault === 'function') {
        answer.resume().once('end', fault);
        return;
      }
      outgoing.writeHead(answer.statusCode!, answer.headers);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    writes,
    failNext: (pattern, status) => void faults.push({ pattern, status }),
    loseAnswerOf: (pattern) => void faults.push({ pattern, status: 'lost' }),
    holdAnswerOf: (pattern) => new Promise((resolve) => void faults.push({ pattern, status: resolve })),
    failEachOnce(how) {
      const failed = new Set<string>();
      each = { how, failed };
      return {
        failed,
        end() {
          each = undefined;
        },
      };
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
