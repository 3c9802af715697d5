import { EventEmitter, once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import { type WebSocket, WebSocketServer } from 'ws';
import { CodedError } from '../errors.ts';
import { FORWARDED_HEADER } from '../peers.ts';
import { forwardUpgrade } from './forward.ts';
import { AgentLink, type AgentTraits, type PingTimes, type TakeLane } from './link.ts';
import { socketStream } from './socket-stream.ts';
import { sandboxOfBearer } from './token.ts';
import { BOOT_HEADER, LANE_HEADER, LANES_HEADER, RESTARTED_HEADER } from './wire.ts';

export interface HubDeps {
  /** HMAC key of the agents' tokens. */
  secret: string;
  /** A sandbox that is live now; null where it is not, or no longer. Rejects while that, or where its agent belongs, can't be told. */
  liveSandbox(sandbox: string): Promise<LiveSandbox | null>;
  log: Logger;
  /** Default: a half-open connection, or an agent that hangs, is noticed within 15 s. */
  ping?: PingTimes;
}

export interface LiveSandbox {
  incarnation: number;
  /** Its cell. */
  app: string;
  /** Base URL of the controller that works for the cell, where that is another one. */
  elsewhere?: string | undefined;
}

interface HubEvents {
  connect: [link: AgentLink];
  disconnect: [link: AgentLink, reason: string];
}

const PING: PingTimes = { everyMs: 5_000, answerMs: 10_000 };
/** From the upgrade to the agent's first HTTP/2 frame. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Flow control must not be what limits a tunnel whose other end is another process nearby: as much may be under way. */
const WINDOW_BYTES = 16 * 1024 * 1024;
const MOST_MESSAGE_BYTES = 64 * 1024 * 1024;

/** Who is connected. One link per sandbox: a newer connection replaces an older one. */
export class AgentHub extends EventEmitter<HubEvents> {
  readonly #deps: HubDeps;
  readonly #links = new Map<string, AgentLink>();
  readonly #cells = new WeakMap<AgentLink, string>();
  readonly #handshakes = new Set<WebSocket>();
  /** Agents that were led on to another controller. */
  readonly #forwarded = new Set<Duplex>();
  readonly #upgrades = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MOST_MESSAGE_BYTES,
  });
  #closing = false;

  constructor(deps: HubDeps) {
    super();
    this.setMaxListeners(0);
    this.#deps = deps;
  }

  get size(): number {
    return this.#links.size;
  }

  get(sandbox: string): AgentLink | undefined {
    return this.#links.get(sandbox);
  }

  /** The sandbox's link, now or as soon as its agent dials. Rejects with `agent_unreachable` after `timeoutMs`. */
  async waitFor(sandbox: string, wait: { timeoutMs: number; signal?: AbortSignal }): Promise<AgentLink> {
    const present = this.#links.get(sandbox);
    if (present !== undefined) return present;
    wait.signal?.throwIfAborted();
    return new Promise((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        this.off('connect', look);
        wait.signal?.removeEventListener('abort', abandon);
      };
      const look = (link: AgentLink) => {
        if (link.sandbox !== sandbox) return;
        end();
        resolve(link);
      };
      const abandon = () => {
        end();
        reject(wait.signal?.reason);
      };
      const timer = setTimeout(() => {
        end();
        const detail = `The agent of ${sandbox} did not call within ${wait.timeoutMs} ms`;
        reject(new CodedError('agent_unreachable', detail));
      }, wait.timeoutMs);
      this.on('connect', look);
      wait.signal?.addEventListener('abort', abandon, { once: true });
    });
  }

  /** For the `upgrade` event of an HTTP server: accepts an agent, or answers with a status and closes. */
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    this.#admit(request).then(
      (caller) => {
        if (caller.elsewhere !== undefined) return this.#forward(request, socket, head, caller.elsewhere);
        if (caller.lane !== undefined) return caller.lane(request, socket, head);
        this.#upgrades.handleUpgrade(request, socket, head, (client) => {
          void this.#welcome(client, caller);
        });
      },
      (error: unknown) => {
        const status = error instanceof Refusal ? error.status : 503;
        this.#deps.log.info({ status, reason: (error as Error).message }, 'agent refused');
        socket.end(`HTTP/1.1 ${status} ${REASONS[status]}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
      },
    );
  }

  /** Closes the link of a sandbox that is not to be spoken to any more. */
  drop(sandbox: string, reason: string): void {
    this.#links.get(sandbox)?.close(reason);
  }

  /** Closes the links of a cell that another controller works for: their agents dial again, and are led there. */
  dropCell(app: string): void {
    for (const link of this.#links.values()) {
      if (this.#cells.get(link) === app) link.close('another controller works for the cell');
    }
  }

  /** Closes all links and takes no more. Agents dial again, whoever then answers. */
  close(): void {
    this.#closing = true;
    for (const client of this.#handshakes) client.terminate();
    for (const link of this.#links.values()) link.close('the controller is shutting down');
    for (const socket of this.#forwarded) socket.destroy();
  }

  #forward(request: IncomingMessage, socket: Duplex, head: Buffer, address: string): void {
    this.#forwarded.add(socket);
    socket.once('close', () => this.#forwarded.delete(socket));
    forwardUpgrade(request, socket, head, address);
  }

  async #admit(request: IncomingMessage): Promise<Caller> {
    if (this.#closing) throw new Refusal(503, 'shutting down');
    if (request.method !== 'GET' || request.url?.split('?')[0] !== '/v1/agent')
      throw new Refusal(404, 'no such path');
    const sandbox = sandboxOfBearer(this.#deps.secret, request.headers.authorization);
    if (sandbox === undefined) throw new Refusal(401, 'no valid agent token');
    const live = await this.#deps.liveSandbox(sandbox);
    // What begins now nobody would end.
    if (this.#closing) throw new Refusal(503, 'shutting down');
    if (live === null) throw new Refusal(403, `${sandbox} is not live`);
    const { [LANE_HEADER]: id, [FORWARDED_HEADER]: forwarded } = request.headers;
    if (live.elsewhere !== undefined && !this.#links.has(sandbox)) {
      if (forwarded !== undefined) throw new Refusal(503, 'its cell is changing hands');
      return { sandbox, ...live, traits: {}, lane: undefined };
    }
    const lane = id === undefined ? undefined : this.#links.get(sandbox)?.takeLane(String(id));
    if (id !== undefined && lane === undefined) throw new Refusal(404, 'no such lane');
    return { sandbox, ...live, elsewhere: undefined, traits: traitsOf(request), lane };
  }

  async #welcome(client: WebSocket, { sandbox, app, incarnation, traits }: Caller): Promise<void> {
    this.#handshakes.add(client);
    try {
      const session = await openSession(client);
      const link = new AgentLink(sandbox, incarnation, session, this.#deps.ping ?? PING, traits);
      if (this.#closing) return link.close('the controller is shutting down');
      const older = this.#links.get(sandbox);
      this.#links.set(sandbox, link);
      this.#cells.set(link, app);
      older?.close('the agent has connected anew');
      void link.closed.then((reason) => this.#farewell(link, reason));
      this.#deps.log.info({ sandbox }, 'agent connected');
      this.emit('connect', link);
    } catch (error) {
      client.terminate();
      this.#deps.log.warn({ sandbox, reason: (error as Error).message }, 'agent did not speak HTTP/2');
    } finally {
      this.#handshakes.delete(client);
    }
  }

  #farewell(link: AgentLink, reason: string): void {
    if (this.#links.get(link.sandbox) === link) this.#links.delete(link.sandbox);
    this.#deps.log.info({ sandbox: link.sandbox, reason }, 'agent disconnected');
    this.emit('disconnect', link, reason);
  }
}

interface Caller extends LiveSandbox {
  sandbox: string;
  traits: AgentTraits;
  /** It dials a lane and not its tunnel: who takes that. */
  lane: TakeLane | undefined;
}

/** What comes from a sandbox is not trusted: words of a known form, or nothing. */
function traitsOf({ headers }: IncomingMessage): AgentTraits {
  const word = (name: string, form: RegExp) => {
    const value = headers[name];
    return typeof value === 'string' && form.test(value) ? value : undefined;
  };
  return {
    hasLanes: headers[LANES_HEADER] === '1',
    boot: word(BOOT_HEADER, /^[A-Za-z0-9-]{1,64}$/),
    restarted: word(RESTARTED_HEADER, /^(out_of_memory|unresponsive|crashed)$/),
  };
}

class Refusal extends Error {
  readonly status: keyof typeof REASONS;
  constructor(status: keyof typeof REASONS, message: string) {
    super(message);
    this.status = status;
  }
}

const REASONS = {
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  503: 'Service Unavailable',
} as const;

/** HTTP/2 with us as the client, proven by the agent's settings frame. */
async function openSession(client: WebSocket): Promise<ClientHttp2Session> {
  const stream = socketStream(client);
  const session = connect('http://agent', {
    createConnection: () => stream,
    settings: { enablePush: false, initialWindowSize: WINDOW_BYTES, maxFrameSize: 1024 * 1024 },
  });
  // From the first moment on: an agent may be gone before its settings are acknowledged, and that error comes before whoever awaits
  // them goes on. What it means is told by the end of the session.
  session.on('error', () => {});
  try {
    await once(session, 'remoteSettings', { signal: AbortSignal.timeout(HANDSHAKE_TIMEOUT_MS) });
  } catch (error) {
    session.destroy();
    throw error;
  }
  session.setLocalWindowSize(WINDOW_BYTES);
  return session;
}
