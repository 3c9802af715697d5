import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Duplex, PassThrough } from 'node:stream';
import { WebSocketServer } from 'ws';
import { socketStream } from '../../controller/agents/socket-stream.ts';
import type { ExecEvent, ExecSpec } from '../../controller/agents/wire.ts';

export const AGENT = new URL('../../image/agent/main.ts', import.meta.url).pathname;
export const TOKEN = 's-test-1.0123456789abcdef';

export interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: Buffer;
  // biome-ignore lint/suspicious/noExplicitAny: a test says what it expects of an answer
  json: () => any;
}

/** The controller's side of the link, as small as it can be, and a real agent process that dials it. */
export class Rig implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'agent-test-'));
  readonly workspace = join(this.dir, 'workspace');
  readonly state = join(this.dir, 'state');
  readonly #socket = join(this.dir, 'ctl', 'c.sock');
  readonly #server: Server = createServer();
  readonly #links = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: 1 << 30 });
  readonly #sockets = new Set<Duplex>();
  #session: ClientHttp2Session | undefined;
  #arrived: (() => void)[] = [];
  agent!: ChildProcess;
  logs = '';
  authorizations: string[] = [];
  /** Of each dial that was let in. */
  dials: IncomingHttpHeaders[] = [];
  /** Status to refuse dials with. */
  refuse: number | undefined;

  static async start(env: Record<string, string> = {}): Promise<Rig> {
    const rig = new Rig();
    await rig.#listen();
    rig.launch(env);
    await rig.connected();
    return rig;
  }

  /** A rig whose agent is not started yet. */
  static async idle(): Promise<Rig> {
    const rig = new Rig();
    await rig.#listen();
    return rig;
  }

  get url(): string {
    return `ws+unix:${this.#socket}:/v1/agent`;
  }

  launch(env: Record<string, string> = {}, prefix: string[] = []): void {
    const [file, ...args] = [...prefix, process.execPath, '--disable-sigusr1', AGENT];
    this.agent = spawn(file!, args, {
      stdio: ['ignore', 'inherit', 'pipe'],
      env: {
        PATH: process.env.PATH,
        MOBVIBE_AGENT_DIAL_URL: this.url,
        MOBVIBE_AGENT_TOKEN: TOKEN,
        MOBVIBE_SANDBOX: 's-test-1',
        MOBVIBE_WORKSPACE_DIR: this.workspace,
        MOBVIBE_AGENT_STATE_DIR: this.state,
        MOBVIBE_USER_HOME_DIR: join(this.dir, 'home'),
        ...env,
      },
    });
    this.agent.stderr!.on('data', (text: Buffer) => {
      this.logs += text;
    });
  }

  async #listen(): Promise<void> {
    this.#server.on('upgrade', (req, socket: Socket, head) => {
      this.authorizations.push(String(req.headers.authorization));
      if (this.refuse !== undefined) {
        socket.end(`HTTP/1.1 ${this.refuse} Refused\r\ncontent-length: 0\r\n\r\n`);
        return;
      }
      this.dials.push(req.headers);
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
      this.#links.handleUpgrade(req, socket, head, (ws) => {
        const duplex = socketStream(ws);
        duplex.on('error', () => {});
        const session = http2.connect('http://agent', {
          createConnection: () => duplex,
          maxSessionMemory: 256,
          settings: { initialWindowSize: 16 << 20, maxFrameSize: 256 << 10 },
        });
        session.on('error', () => {});
        session.once('connect', () => session.setLocalWindowSize(64 << 20));
        session.once('close', () => {
          if (this.#session === session) this.#session = undefined;
        });
        this.#session = session;
        for (const wake of this.#arrived.splice(0)) wake();
      });
    });
    mkdirSync(join(this.dir, 'ctl'));
    this.#server.listen(this.#socket);
    await once(this.#server, 'listening');
    chmodSync(this.#socket, 0o666);
  }

  /** Settles with the link that is up, or the next one. */
  async connected(): Promise<ClientHttp2Session> {
    while (this.#session === undefined || this.#session.destroyed) {
      await new Promise<void>((resolve) => this.#arrived.push(resolve));
    }
    return this.#session;
  }

  /** Cuts the link as a dead network would: no goodbye. */
  async cut(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (session !== undefined && !session.closed) await once(session, 'close');
  }

  async open(
    method: string,
    path: string,
    headers: Record<string, string | number> = {},
  ): Promise<ClientHttp2Stream> {
    const stream = (await this.connected()).request({ ':method': method, ':path': path, ...headers });
    stream.on('error', () => {});
    return stream;
  }

  async request(method: string, path: string, body?: unknown): Promise<Answer> {
    const stream = await this.open(method, path);
    if (body === undefined) stream.end();
    else stream.end(typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body));
    // Read by events: an HTTP/2 stream that closed before it is iterated counts as broken, though all its bytes are there.
    const parts: Buffer[] = [];
    stream.on('data', (part: Buffer) => parts.push(part));
    const closed = once(stream, 'close');
    const headers = await response(stream);
    await closed;
    const answer = Buffer.concat(parts);
    return {
      status: Number(headers[':status']),
      headers,
      body: answer,
      json: () => JSON.parse(answer.toString()),
    };
  }

  /** The stream's events until it ends or breaks. */
  async *events(method: string, path: string, body?: unknown): AsyncGenerator<ExecEvent> {
    const stream = await this.open(method, path);
    stream.end(body === undefined ? undefined : JSON.stringify(body));
    const texts = stream.pipe(new PassThrough({ encoding: 'utf8' }));
    // A link that breaks ends the events where they are, as it does for a real reader.
    stream.once('close', () => texts.end());
    const headers = await response(stream);
    if (headers[':status'] !== 200)
      throw new Error(`${method} ${path} was answered with ${headers[':status']}`);
    let rest = '';
    for await (const text of texts) {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) yield JSON.parse(line);
    }
  }

  /** Runs a command to its end and gathers what it wrote. */
  async run(id: string, spec: ExecSpec | string): Promise<Gathered> {
    const body = typeof spec === 'string' ? { command: spec } : spec;
    return gather(this.events('PUT', `/execs/${id}?follow=1`, body));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.agent !== undefined && this.agent.exitCode === null && this.agent.signalCode === null) {
      this.agent.kill('SIGKILL');
      await once(this.agent, 'exit');
    }
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

async function response(stream: ClientHttp2Stream): Promise<Record<string, unknown>> {
  const broken = once(stream, 'close').then(() => {
    throw new Error(`The stream was closed without an answer (${stream.rstCode})`);
  });
  const [headers] = await Promise.race([once(stream, 'response'), broken]);
  broken.catch(() => {});
  return headers;
}

export interface Gathered {
  stdout: string;
  stderr: string;
  bytes: { stdout: Buffer; stderr: Buffer };
  events: ExecEvent[];
  end: (ExecEvent & { type: 'end' }) | undefined;
}

export async function gather(events: AsyncIterable<ExecEvent>): Promise<Gathered> {
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  const seen: ExecEvent[] = [];
  let end: Gathered['end'];
  for await (const event of events) {
    seen.push(event);
    if (event.type === 'stdout' || event.type === 'stderr') parts[event.type].push(decode(event));
    if (event.type === 'end') end = event;
  }
  const bytes = { stdout: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr) };
  return { stdout: bytes.stdout.toString(), stderr: bytes.stderr.toString(), bytes, events: seen, end };
}

export function decode(event: ExecEvent & { type: 'stdout' | 'stderr' }): Buffer {
  return Buffer.from(event.data, event.encoding ?? 'utf8');
}

/** Waits until something holds; the test's own time limit catches what never does. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
}

/** Whether a process is there and not only waiting to be reaped. */
export function alive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
