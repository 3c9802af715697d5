import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import http2, { type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Beneath } from '../../../image/agent/files/beneath.ts';
import { fileRoutes } from '../../../image/agent/files/routes.ts';
import { Router } from '../../../image/agent/http/router.ts';
import { Gate } from '../../../image/agent/seal/gate.ts';
import { workspaceRoutes } from '../../../image/agent/workspace/routes.ts';
import { Workspace, type WorkspaceParts } from '../../../image/agent/workspace/workspace.ts';
import type { Answer } from '../rig.ts';

/** Files and workspace as an agent answers for them, in this process: a test can reach what is behind the routes. */
export class Routed implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'routed-'));
  readonly tree = join(this.dir, 'workspace');
  readonly state = join(this.dir, 'state');
  gate!: Gate;
  workspace!: Workspace;
  router!: Router;
  readonly #server = http2.createServer();
  #client!: ClientHttp2Session;

  static async start(parts: Partial<WorkspaceParts> = {}): Promise<Routed> {
    const routed = new Routed();
    mkdirSync(routed.tree);
    mkdirSync(routed.state);
    await routed.restart(parts);
    routed.#server.on('stream', (stream, headers) => routed.router.handle(stream, headers));
    routed.#server.listen(0, '127.0.0.1');
    await once(routed.#server, 'listening');
    const { port } = routed.#server.address() as AddressInfo;
    routed.#client = http2.connect(`http://127.0.0.1:${port}`, { maxSessionMemory: 256 });
    return routed;
  }

  /** As a new agent of the same machine, with nothing but its folders. */
  async restart(parts: Partial<WorkspaceParts> = {}): Promise<void> {
    const tree = new Beneath(this.tree);
    this.gate = new Gate();
    this.workspace = await Workspace.open({
      tree,
      stateDir: this.state,
      sandbox: 's-test-1',
      owner: undefined,
      proxy: undefined,
      gate: this.gate,
      now: Date.now,
      random: () => 0,
      ...parts,
    });
    this.router = new Router(() => Promise.reject(new Error('there are no lanes here')));
    fileRoutes(this.router, tree, undefined, this.gate);
    workspaceRoutes(this.router, this.workspace);
  }

  open(method: string, path: string): ClientHttp2Stream {
    const stream = this.#client.request({ ':method': method, ':path': path }, { endStream: false });
    stream.on('error', () => {});
    return stream;
  }

  async request(method: string, path: string, body?: unknown): Promise<Answer> {
    const stream = this.open(method, path);
    stream.end(body === undefined || typeof body === 'string' ? body : JSON.stringify(body));
    return answerOf(stream);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    this.#server.close();
    await once(this.#server, 'close');
    rmSync(this.dir, { recursive: true, force: true });
  }
}

export async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  const parts: Buffer[] = [];
  stream.on('data', (part: Buffer) => parts.push(part));
  const closed = once(stream, 'close');
  const [headers] = await once(stream, 'response');
  await closed;
  const body = Buffer.concat(parts);
  return { status: Number(headers[':status']), headers, body, json: () => JSON.parse(body.toString()) };
}
