import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/** What befalls one request. */
export type Effect =
  /** Passed on after so long. */
  | { kind: 'delay'; ms: number }
  /** Closed before anything of it is passed on. */
  | { kind: 'refuse' }
  /** Answered with this; nothing is passed on. */
  | { kind: 'answer'; status: number; body: unknown }
  /** Passed on and done, and then answered with this. */
  | { kind: 'done'; status: number; body: unknown }
  /** Passed on and done; instead of the answer the connection ends. */
  | { kind: 'lost' }
  /** Half of its body is passed on, then both sides are broken. Without a body: half of the answer comes. */
  | { kind: 'cut' }
  /** Neither passed on nor answered, until the caller gives up or the fault is over. */
  | { kind: 'hang' };

export interface Rule {
  /** Against `METHOD /path?query`. */
  match: RegExp;
  /** In (0, 1]: how many of those that match meet it. */
  chance: number;
  effect: Effect;
}

/** An HTTP service's front door that misbehaves by rule. */
export class HttpGate {
  readonly #server: http.Server;
  readonly #agent = new http.Agent({ keepAlive: true });
  readonly #random: () => number;
  readonly #rules = new Set<Rule>();
  readonly #hanging = new Map<http.IncomingMessage, Rule>();
  #port = 0;
  /** Of the service behind. */
  target = 0;

  private constructor(random: () => number) {
    this.#random = random;
    this.#server = http.createServer({ requestTimeout: 0 }, (request, response) => {
      request.on('error', () => {});
      response.on('error', () => {});
      void this.#take(request, response).catch(() => breakOff(request));
    });
    this.#server.on('error', () => {});
  }

  static async open(random: () => number): Promise<HttpGate> {
    const gate = new HttpGate(random);
    await gate.#listen();
    return gate;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** In force until the returned function is called; the newest comes first. */
  add(rule: Rule): () => void {
    this.#rules.add(rule);
    return () => {
      this.#rules.delete(rule);
      for (const [request, met] of this.#hanging) if (met === rule) breakOff(request);
    };
  }

  /** Nobody listens: connections are refused by the kernel, those that are open break. */
  async down(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async up(): Promise<void> {
    if (!this.#server.listening) await this.#listen();
  }

  async close(): Promise<void> {
    await this.down();
    this.#agent.destroy();
  }

  async #listen(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async #take(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const line = `${request.method} ${request.url}`;
    const rule = [...this.#rules]
      .reverse()
      .find(({ match, chance }) => match.test(line) && this.#random() < chance);
    switch (rule?.effect.kind) {
      case undefined:
        return this.#pass(request, response);
      case 'delay':
        await new Promise((resolve) => setTimeout(resolve, (rule!.effect as { ms: number }).ms));
        return this.#pass(request, response);
      case 'refuse':
        return void breakOff(request);
      case 'answer':
        request.resume();
        return say(response, rule!.effect as { status: number; body: unknown });
      case 'hang':
        this.#hanging.set(request, rule!);
        return void response.once('close', () => this.#hanging.delete(request));
      case 'cut':
        return this.#pass(request, response, 'cut');
      case 'lost':
      case 'done':
        await this.#drop(request);
        if (rule!.effect.kind === 'done') return say(response, rule!.effect);
        return void breakOff(request);
    }
  }

  #forward(request: http.IncomingMessage): http.ClientRequest {
    const { method, url, headers } = request;
    const options = { host: '127.0.0.1', port: this.target, method, path: url, headers, agent: this.#agent };
    return http.request(options);
  }

  #pass(request: http.IncomingMessage, response: http.ServerResponse, how?: 'cut'): void {
    const outgoing = this.#forward(request);
    outgoing.on('error', () => breakOff(request));
    response.once('close', () => outgoing.destroy());
    const length = Number(request.headers['content-length'] ?? 0);
    outgoing.once('response', (answer) => {
      answer.on('error', () => response.destroy());
      response.writeHead(answer.statusCode!, answer.headers);
      if (how === 'cut') {
        response.flushHeaders();
        answer.once('data', (data: Buffer) => {
          response.write(data.subarray(0, data.length >> 1), () => breakOff(request));
        });
        answer.once('end', () => breakOff(request));
      } else answer.pipe(response);
    });
    if (how !== 'cut' || length === 0) return void request.pipe(outgoing);
    let left = length >> 1;
    request.on('data', (data: Buffer) => {
      const part = data.subarray(0, Math.max(0, left));
      left -= data.length;
      const end = () => {
        outgoing.destroy();
        breakOff(request);
      };
      // It has to be on its way first.
      if (part.length > 0) outgoing.write(part, () => left <= 0 && end());
      else if (left <= 0) end();
    });
  }

  /** Passes it on and reads its answer to the end, for nobody. */
  async #drop(request: http.IncomingMessage): Promise<void> {
    const outgoing = this.#forward(request);
    request.pipe(outgoing);
    const [answer] = (await once(outgoing, 'response')) as [http.IncomingMessage];
    answer.resume();
    await once(answer, 'end');
  }
}

/** A request that was read to its end is destroyed already; its connection is not. */
function breakOff(request: http.IncomingMessage): void {
  request.socket.destroy();
}

function say(response: http.ServerResponse, { status, body }: { status: number; body: unknown }): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
