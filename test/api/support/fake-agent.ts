import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, mkdtemp, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import http2 from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AgentLink } from '../../../controller/agents/link.ts';
import type { ExecEvent, ExecInfo, ExecSpec, FileStat } from '../../../controller/agents/wire.ts';

interface Exec {
  spec: string;
  info: ExecInfo;
  child: ChildProcess;
  received: number;
  stalled: boolean;
  /** Every event but start, and a wake-up for whoever follows. */
  log: ExecEvent[];
  changed: PromiseWithResolvers<void>;
}

type Stream = http2.ServerHttp2Stream;

/**
 * Speaks the agent's side of wire.ts over real HTTP/2 with real processes and files, without any isolation: the routes and
 * the SDK can't tell the difference, and tests can break it.
 */
export class FakeAgent {
  readonly root: string;
  readonly #server: http2.Http2Server;
  readonly #execs = new Map<string, Exec>();
  readonly #sockets = new Set<Socket>();
  /** `METHOD path` of each request, in order. */
  readonly requests: string[] = [];
  /** Streams that were opened and have not been closed by either side. */
  openStreams = 0;

  private constructor(root: string, server: http2.Http2Server) {
    this.root = root;
    this.#server = server;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('sessionError', () => {});
    server.on('stream', (stream, headers) => {
      this.openStreams++;
      stream.on('error', () => {});
      stream.once('close', () => this.openStreams--);
      const url = new URL(headers[':path']!, 'http://agent');
      this.requests.push(`${headers[':method']} ${url.pathname}`);
      this.#answer(stream, headers[':method']!, url).catch((error) => fail(stream, error));
    });
  }

  static async start(): Promise<FakeAgent> {
    const root = await mkdtemp(join(tmpdir(), 'fake-agent-'));
    const server = http2.createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new FakeAgent(root, server);
  }

  /** Dials it as the controller's hub would have been dialed. */
  async link(sandbox: string, incarnation: number): Promise<AgentLink> {
    const session = http2.connect(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
    await once(session, 'connect');
    return new AgentLink(sandbox, incarnation, session, { everyMs: 5_000, answerMs: 10_000 });
  }

  /** Breaks every connection; commands go on. */
  disconnect(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Whether whoever follows the command has stopped reading. */
  stalled(id: string): boolean {
    return this.#execs.get(id)?.stalled ?? false;
  }

  async close(): Promise<void> {
    for (const { child } of this.#execs.values()) killGroup(child, 'SIGKILL');
    this.disconnect();
    this.#server.close();
    await rm(this.root, { recursive: true, force: true });
  }

  async #answer(stream: Stream, method: string, url: URL): Promise<void> {
    const [, kind, id, action] = url.pathname.split('/');
    const query = (name: string) => url.searchParams.get(name) ?? '';
    if (kind === 'execs') return this.#exec(stream, method, id, action, query);
    if (kind === 'files') return this.#file(stream, method, id, query);
    throw coded(404, 'route_not_found', url.pathname);
  }

  async #exec(stream: Stream, method: string, id = '', action = '', query: (name: string) => string) {
    if (id === '')
      return json(
        stream,
        200,
        [...this.#execs.values()].map(({ info }) => info),
      );
    if (method === 'PUT') {
      const isNew = !this.#execs.has(id);
      const text = (await readAll(stream)).toString();
      const exec = this.#execs.get(id) ?? (await this.#start(id, text));
      if (exec.spec !== text) throw coded(409, 'exec_conflict', id);
      const status = isNew ? 201 : 200;
      return query('follow') ? this.#follow(stream, exec, 0, 0, status) : json(stream, status, exec.info);
    }
    const exec = this.#execs.get(id);
    if (exec === undefined) throw coded(404, 'exec_not_found', id);
    if (action === '') return json(stream, 200, exec.info);
    if (action === 'output') {
      return this.#follow(stream, exec, Number(query('stdout')), Number(query('stderr')), 200);
    }
    if (action === 'stdin') {
      const data = await readAll(stream);
      if (exec.info.state === 'ended') throw coded(409, 'exec_ended', id);
      const fresh = data.subarray(Math.max(0, exec.received - Number(query('offset'))));
      exec.received += fresh.length;
      if (fresh.length > 0) exec.child.stdin!.write(fresh);
      if (query('eof')) exec.child.stdin!.end();
      return json(stream, 200, { received: exec.received });
    }
    if (exec.info.state === 'ended') throw coded(409, 'exec_ended', id);
    const { signal } = JSON.parse((await readAll(stream)).toString());
    killGroup(exec.child, signal);
    stream.respond({ ':status': 204 }, { endStream: true });
  }

  async #start(id: string, text: string): Promise<Exec> {
    const spec: ExecSpec = JSON.parse(text);
    const [file, ...args] =
      typeof spec.command === 'string' ? ['bash', '-c', spec.command] : (spec.command as string[]);
    const child = spawn(file!, args, {
      cwd: join(this.root, spec.cwd ?? ''),
      env: { ...process.env, ...spec.env },
      detached: true,
    });
    const spawned = once(child, 'spawn');
    await spawned.catch(() => {
      throw coded(400, 'command_not_found', file!);
    });
    if (!spec.stdin) child.stdin.end();
    child.stdin.on('error', () => {});
    const info: ExecInfo = {
      id,
      state: 'running',
      pid: child.pid!,
      started_at: Date.now(),
      stdout_bytes: 0,
      stderr_bytes: 0,
    };
    const exec: Exec = {
      spec: text,
      info,
      child,
      received: 0,
      stalled: false,
      log: [],
      changed: Promise.withResolvers(),
    };
    this.#execs.set(id, exec);
    const say = (event: ExecEvent) => {
      exec.log.push(event);
      exec.changed.resolve();
      exec.changed = Promise.withResolvers();
    };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name].on('data', (data: Buffer) => {
        say({ type: name, offset: info[`${name}_bytes`], data: data.toString('base64'), encoding: 'base64' });
        info[`${name}_bytes`] += data.length;
      });
    }
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child, 'SIGTERM');
    }, spec.timeout_ms);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      info.state = 'ended';
      info.result = timedOut
        ? { kind: 'timed_out', timeout_ms: spec.timeout_ms! }
        : signal === null
          ? { kind: 'exited', code: code! }
          : { kind: 'signaled', signal };
      const { stdout_bytes, stderr_bytes } = info;
      say({ type: 'end', result: info.result, stdout_bytes, stderr_bytes, duration_ms: 1 });
    });
    return exec;
  }

  async #follow(stream: Stream, exec: Exec, stdout: number, stderr: number, status: number): Promise<void> {
    stream.respond({ ':status': status, 'content-type': 'application/x-ndjson' });
    const { id, pid, started_at } = exec.info;
    stream.write(line({ type: 'start', id, pid, started_at }));
    const closed = once(stream, 'close').catch(() => {});
    for (let next = 0; !stream.closed; ) {
      const event = exec.log[next];
      if (event === undefined) {
        await Promise.race([exec.changed.promise, closed]);
        continue;
      }
      next++;
      if (event.type === 'end') return void stream.end(line(event));
      if (event.type !== 'stdout' && event.type !== 'stderr') continue;
      const from = event.type === 'stdout' ? stdout : stderr;
      const data = Buffer.from(event.data, 'base64').subarray(Math.max(0, from - event.offset));
      if (data.length === 0) continue;
      const offset = Math.max(event.offset, from);
      if (!stream.write(line({ ...event, offset, data: data.toString('base64') }))) {
        exec.child.stdout!.pause();
        exec.stalled = true;
        const { promise: drained, resolve } = Promise.withResolvers<void>();
        stream.once('drain', resolve);
        await Promise.race([drained, closed]);
        stream.off('drain', resolve);
        exec.stalled = false;
        exec.child.stdout!.resume();
      }
    }
  }

  async #file(stream: Stream, method: string, action = '', query: (name: string) => string): Promise<void> {
    const at = (path: string) => {
      const full = join(this.root, path);
      if (relative(this.root, full).startsWith('..')) throw coded(403, 'path_outside', path);
      return full;
    };
    if (method === 'POST') {
      const body = JSON.parse((await readAll(stream)).toString());
      if (action === 'mkdir') await mkdir(at(body.path), { recursive: true });
      if (action === 'symlink') await symlink(body.target, at(body.path));
      if (action === 'move') await rename(at(body.from), at(body.to));
      return json(stream, 200, await this.#stat(at(body.path ?? body.to)));
    }
    const path = at(query('path'));
    if (action === 'stat') return json(stream, 200, await this.#stat(path));
    if (action === 'list') {
      const names = (await readdir(path, { recursive: query('recursive') === '1' })).sort();
      stream.respond({ ':status': 200, 'content-type': 'application/x-ndjson' });
      for (const name of names) stream.write(line(await this.#stat(join(path, name))));
      return void stream.end();
    }
    if (method === 'DELETE') {
      await lstat(path);
      await rm(path, { recursive: query('recursive') === '1' });
      return stream.respond({ ':status': 204 }, { endStream: true });
    }
    if (method === 'PUT') {
      await mkdir(dirname(path), { recursive: true });
      const part = `${path}.part`;
      let whole = false;
      stream.once('aborted', () => void rm(part, { force: true }));
      await pipeline(async function* () {
        yield* stream;
        whole = !stream.aborted && stream.rstCode === 0;
      }, createWriteStream(part));
      if (!whole) return;
      await chmod(part, Number.parseInt(query('mode') || '644', 8));
      await rename(part, path);
      return json(stream, 200, await this.#stat(path));
    }
    const stat = await this.#stat(path);
    if (stat.type !== 'file') throw coded(409, 'not_a_file', query('path'));
    stream.respond({
      ':status': 200,
      'content-length': String(stat.size),
      'x-mobvibe-stat': encodeURIComponent(JSON.stringify(stat)),
    });
    await pipeline(createReadStream(path), stream);
  }

  async #stat(full: string): Promise<FileStat> {
    const stats = await lstat(full);
    const type = stats.isFile()
      ? 'file'
      : stats.isDirectory()
        ? 'directory'
        : stats.isSymbolicLink()
          ? 'symlink'
          : 'other';
    return {
      path: relative(this.root, full),
      type,
      size: stats.size,
      mode: stats.mode & 0o7777,
      mtime_ms: stats.mtimeMs,
      ...(type === 'symlink' ? { target: await readlink(full) } : {}),
    };
  }
}

const line = (value: unknown) => `${JSON.stringify(value)}\n`;

async function readAll(stream: Stream): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function json(stream: Stream, status: number, value: unknown): void {
  stream.respond({ ':status': status, 'content-type': 'application/json' });
  stream.end(JSON.stringify(value));
}

const coded = (status: number, code: string, detail: string) =>
  Object.assign(new Error(detail), { status, wire: { code, detail } });

const BY_ERRNO: Record<string, [number, string]> = {
  ENOENT: [404, 'file_not_found'],
  EEXIST: [409, 'file_exists'],
  ENOTEMPTY: [409, 'directory_not_empty'],
  ERR_FS_EISDIR: [409, 'not_a_file'],
};

function fail(stream: Stream, error: Error & { status?: number; wire?: object; code?: string }): void {
  if (stream.destroyed || stream.headersSent) {
    stream.destroy();
    return;
  }
  const [status, code] = BY_ERRNO[error.code ?? ''] ?? [500, 'internal'];
  json(stream, error.status ?? status, error.wire ?? { code, detail: error.message });
}

function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    process.kill(-child.pid!, signal);
  } catch {
    // It has ended.
  }
}
