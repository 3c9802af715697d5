import { createHash } from 'node:crypto';
import {
  createServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  performServerHandshake,
} from 'node:http2';
import { createWebSocketStream, WebSocket } from 'ws';
import type {
  AgentError,
  ExecEvent,
  ExecResult,
  ExecSpec,
  LongAnswer,
  PackObject,
  PackRequest,
  PackResult,
  RestoreRequest,
  RestoreResult,
  UnsavedRequest,
  UploadRequest,
  UploadResult,
} from '../../controller/agents/wire.ts';

/** What a sandbox's machine holds, as far as these tests go: files, and execs whose course the test decides. */
export class FakeMachine {
  readonly files = new Map<string, string>();
  readonly execs = new Map<string, FakeExec>();
  /** Paths of all requests, in order. */
  readonly requests: string[] = [];
  /** Answers the next requests whose path begins so with an error, as often as is said. */
  readonly failures: { path: string; times: number; status: number; error: AgentError }[] = [];
  /** Settles before each request whose path begins so is answered. */
  readonly gates = new Map<string, Promise<void>>();
  /** Begins the answers to requests whose path begins so, and never ends them. */
  readonly unfinished = new Set<string>();
  readonly packs = new Map<string, Map<string, Buffer>>();
  readonly packed: PackRequest[] = [];
  /** Hashes of all objects that were sent, in order. */
  readonly uploaded: string[] = [];
  restored: number | undefined;
  sealed = false;
  /** Leaves out the first byte of all that it uploads. */
  shortens = false;

  /** From here on nothing changes: what runs is ended. */
  seal(): void {
    this.sealed = true;
    for (const exec of this.execs.values()) exec.end({ kind: 'signaled', signal: 'SIGTERM', by: 'stop' });
  }
}

export class FakeExec {
  readonly spec: ExecSpec;
  readonly stdout: Buffer[] = [];
  stdin = '';
  runs = 1;
  readonly signals: string[] = [];
  #events: ExecEvent[] = [];
  #followers = new Set<() => void>();
  #bytes = { stdout: 0, stderr: 0 };

  constructor(id: string, spec: ExecSpec) {
    this.spec = spec;
    this.#emit({ type: 'start', id, pid: 100, started_at: Date.now() });
  }

  get bytes(): { stdout: number; stderr: number } {
    return this.#bytes;
  }

  write(stream: 'stdout' | 'stderr', data: string | Buffer): void {
    const offset = this.#bytes[stream];
    this.#bytes[stream] += Buffer.byteLength(data);
    this.#emit(
      typeof data === 'string'
        ? { type: stream, offset, data }
        : { type: stream, offset, data: data.toString('base64'), encoding: 'base64' },
    );
  }

  end(result: ExecResult, more: { oom_killed?: true } = {}): void {
    if (this.#events.some(({ type }) => type === 'end')) return;
    const { stdout, stderr } = this.#bytes;
    this.#emit({ type: 'end', result, stdout_bytes: stdout, stderr_bytes: stderr, duration_ms: 1, ...more });
  }

  #emit(event: ExecEvent): void {
    this.#events.push(event);
    for (const follower of this.#followers) follower();
  }

  follow(response: Http2ServerResponse, attach = false): void {
    let next = 0;
    const send = () => {
      for (; next < this.#events.length; next++) {
        const event = this.#events[next]!;
        // All output from the beginning, whatever was asked for: a reader has to go by the offsets alone.
        if (attach && event.type === 'start') continue;
        response.write(`${JSON.stringify(event)}\n`);
        if (event.type === 'end') response.end();
      }
    };
    this.#followers.add(send);
    response.stream.once('close', () => this.#followers.delete(send));
    send();
  }
}

/** Plays the program in a sandbox: dials, serves HTTP/2 on the socket, dials again until it is stopped. */
export class FakeAgent {
  readonly machine: FakeMachine;
  readonly token: string;
  readonly #headers: Record<string, string>;
  /** Status of the last dial that was refused. */
  refused: number | undefined;
  dials = 0;
  #url: string;
  #socket: WebSocket | undefined;
  #stopped = false;
  #redial: NodeJS.Timeout | undefined;
  #server = createServer();

  /** `headers`: what else it says when it dials. */
  constructor(url: string, token: string, machine = new FakeMachine(), headers: Record<string, string> = {}) {
    this.#url = url;
    this.token = token;
    this.machine = machine;
    this.#headers = headers;
    this.#server.on('request', (request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        if (!response.stream.destroyed) fail(response, 500, { code: 'internal', detail: String(error) });
      });
    });
  }

  start(): this {
    this.#dial();
    return this;
  }

  /** The connection breaks; the agent dials again, elsewhere if told so. */
  cut(url?: string): void {
    if (url !== undefined) this.#url = url;
    this.#socket?.terminate();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#redial);
    this.#socket?.terminate();
  }

  #dial(): void {
    this.dials += 1;
    const socket = new WebSocket(this.#url, {
      headers: { ...this.#headers, authorization: `Bearer ${this.token}` },
    });
    this.#socket = socket;
    socket.once('open', () => {
      const stream = createWebSocketStream(socket);
      stream.on('error', () => {});
      const session = performServerHandshake(stream);
      session.on('error', () => {});
      socket.once('close', () => session.destroy());
      session.on('stream', (h2, headers) => this.#server.emit('stream', h2, headers));
    });
    socket.on('unexpected-response', (_request, response) => {
      this.refused = response.statusCode;
      socket.terminate();
    });
    socket.on('error', () => {});
    socket.once('close', () => {
      if (!this.#stopped) this.#redial = setTimeout(() => this.#dial(), 20);
    });
  }

  async #serve(request: Http2ServerRequest, response: Http2ServerResponse): Promise<unknown> {
    response.on('error', () => {});
    const { machine } = this;
    const url = new URL(request.url, 'http://agent');
    const body = await read(request);
    machine.requests.push(`${request.method} ${url.pathname}`);
    for (const [path, gate] of machine.gates) if (url.pathname.startsWith(path)) await gate;
    if ([...machine.unfinished].some((path) => url.pathname.startsWith(path))) {
      response.writeHead(200, { 'content-type': 'application/json' });
      return response.write('{');
    }
    const failure = machine.failures.find(({ path, times }) => times > 0 && url.pathname.startsWith(path));
    if (failure !== undefined) {
      failure.times -= 1;
      return fail(response, failure.status, failure.error);
    }
    const [, room, id, verb] = url.pathname.split('/');
    if (room === 'health') return json(response, 200, { running_execs: machine.execs.size });
    if (room === 'seal') {
      machine.seal();
      return json(response, 200, { terminated: 0, killed: 0 });
    }
    if (machine.sealed && changes(request.method!, url.pathname, machine)) {
      return fail(response, 409, { code: 'session_stopping', detail: 'The sandbox is sealed' });
    }
    if (room === 'workspace') return this.#workspace(id!, JSON.parse(body.toString()), response);
    if (room === 'execs') return this.#exec(request.method!, id!, verb, url.searchParams, body, response);
    fail(response, 404, { code: 'route_not_found', detail: url.pathname });
  }

  #exec(
    method: string,
    id: string,
    verb: string | undefined,
    query: URLSearchParams,
    body: Buffer,
    response: Http2ServerResponse,
  ): unknown {
    const { execs } = this.machine;
    const known = execs.get(id);
    if (method === 'PUT') {
      const exec = known ?? new FakeExec(id, JSON.parse(body.toString()));
      if (known === undefined) {
        execs.set(id, exec);
        play(exec);
      }
      response.writeHead(known === undefined ? 201 : 200);
      exec.follow(response);
      return;
    }
    if (known === undefined) {
      fail(response, 404, { code: 'exec_not_found', detail: id });
      return;
    }
    if (verb === 'output') {
      response.writeHead(200);
      return known.follow(response, true);
    }
    if (verb === 'stdin') {
      known.stdin = known.stdin.slice(0, Number(query.get('offset'))) + body.toString();
      if (query.get('eof') === '1' && known.spec.command === 'cat') {
        known.write('stdout', known.stdin);
        known.end({ kind: 'exited', code: 0 });
      }
      return json(response, 200, { received: known.stdin.length });
    }
    if (verb === 'signal') {
      const { signal } = JSON.parse(body.toString());
      known.signals.push(signal);
      if (known.spec.command !== 'stubborn' || signal === 'SIGKILL') known.end({ kind: 'signaled', signal });
      return json(response, 204);
    }
    fail(response, 404, { code: 'route_not_found', detail: verb ?? '' });
  }

  async #workspace(verb: string, body: unknown, response: Http2ServerResponse): Promise<void> {
    const { machine } = this;
    if (verb === 'pack') {
      const { base_sha256 } = body as PackRequest;
      machine.packed.push(body as PackRequest);
      const content = Buffer.from(JSON.stringify([...machine.files].sort()));
      const pieces = cut(content, (body as PackRequest).object_bytes);
      const packs = pieces.map(object);
      const manifest = Buffer.from(JSON.stringify({ format: 1, files: object(content).sha256 }));
      const sha256 = object(manifest).sha256;
      if (sha256 === base_sha256) return result<PackResult>(response, { changed: false, sha256 });
      machine.packs.set(
        sha256,
        new Map([[sha256, manifest], ...pieces.map((piece) => [object(piece).sha256, piece] as const)]),
      );
      return result<PackResult>(response, {
        changed: true,
        pack_id: sha256,
        manifest: object(manifest),
        packs,
        files: machine.files.size,
        bytes: sizeOf(machine),
        atomic: true,
        paused_ms: 0,
      });
    }
    if (verb === 'upload') {
      const { pack_id, urls } = body as UploadRequest;
      for (const [sha256, bytes] of machine.packs.get(pack_id)!) {
        if (urls[sha256] === undefined) continue;
        const body = new Uint8Array(machine.shortens ? bytes.subarray(1) : bytes);
        const put = await fetch(urls[sha256], { method: 'PUT', body });
        machine.uploaded.push(sha256);
        if (!put.ok) return broken(response, { ...(await refusal(put)), object: sha256 });
      }
      return result<UploadResult>(response, { uploaded: [...machine.packs.get(pack_id)!.keys()] });
    }
    if (verb === 'unsaved') {
      const { base } = body as UnsavedRequest;
      const paths = [...machine.files.keys()];
      return json(response, 200, { base, known: false, files: paths.length, bytes: sizeOf(machine), paths });
    }
    const { version, packs = [] } = body as RestoreRequest;
    // As the real one: the same version again changes nothing.
    const again = machine.restored === version;
    const pieces: Buffer[] = [];
    for (const pack of again ? [] : packs) {
      const piece = Buffer.from(await (await fetch(pack.url)).arrayBuffer());
      const how = piece.length < pack.bytes ? 'truncated' : 'wrong hash';
      if (object(piece).sha256 !== pack.sha256)
        return broken(response, { code: 'version_damaged', detail: how, object: pack.sha256 });
      pieces.push(piece);
    }
    machine.restored = version;
    for (const [path, text] of pieces.length === 0 ? [] : JSON.parse(Buffer.concat(pieces).toString()))
      machine.files.set(path, text);
    result<RestoreResult>(response, { version, files: machine.files.size, bytes: sizeOf(machine) });
  }
}

/** Whether a sealed agent refuses the request. */
function changes(method: string, path: string, { execs }: FakeMachine): boolean {
  const [, room, id, verb] = path.split('/');
  if (room === 'execs') return verb === 'stdin' || (method === 'PUT' && !execs.has(id!));
  return room === 'files' && method !== 'GET';
}

/** `echo TEXT` and `exit N` run to their end; `cat` answers its input; all else runs until the test or a signal ends it. */
function play(exec: FakeExec): void {
  const [verb, ...rest] = String(exec.spec.command).split(' ');
  if (verb === 'echo') exec.write('stdout', `${rest.join(' ')}\n`);
  if (verb === 'echo') exec.end({ kind: 'exited', code: 0 });
  if (verb === 'exit') exec.end({ kind: 'exited', code: Number(rest[0]) });
}

function object(bytes: Buffer): PackObject {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), bytes: bytes.length };
}

async function read(request: Http2ServerRequest): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** In pieces of so many bytes at most. */
function cut(content: Buffer, most = content.length): Buffer[] {
  const pieces: Buffer[] = [];
  for (let at = 0; at < content.length; at += most) pieces.push(content.subarray(at, at + most));
  return pieces;
}

function sizeOf(machine: FakeMachine): number {
  return [...machine.files.values()].reduce((sum, text) => sum + Buffer.byteLength(text), 0);
}

/** What the storage answered, as the real agent tells it. */
async function refusal(put: Response): Promise<AgentError> {
  const said = await put.text();
  const { statusCode, code } = JSON.parse(said) as { statusCode?: string; code?: string };
  const status = Number(statusCode ?? put.status);
  const full = status === 413 || status === 402;
  const refused = status === 401 || status === 403 || code === 'NoSuchBucket';
  return {
    code: full ? 'storage_full' : refused ? 'storage_refused' : 'storage_unavailable',
    detail: said,
    status,
  };
}

/** A long answer that ends well. */
function result<T>(response: Http2ServerResponse, value: T): void {
  lines<T>(response, [
    { type: 'progress', bytes: 1 },
    { type: 'result', result: value },
  ]);
}

/** One that ends in an error. */
function broken(response: Http2ServerResponse, error: AgentError): void {
  lines(response, [{ type: 'error', error }]);
}

function lines<T>(response: Http2ServerResponse, answer: LongAnswer<T>[]): void {
  if (response.stream.destroyed) return;
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.end(answer.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

function json(response: Http2ServerResponse, status: number, value?: unknown): void {
  if (response.stream.destroyed) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(value === undefined ? '' : JSON.stringify(value));
}

function fail(response: Http2ServerResponse, status: number, error: AgentError): void {
  json(response, status, error);
}
