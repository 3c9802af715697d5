import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { EngineReport, MachineExecResult, MachineExit, MachineSpec } from '../../local/fly/engine.ts';

export class RemoteError extends Error {
  readonly code: string | undefined;
  constructor({ code, message }: { code?: string; message: string }) {
    super(message);
    this.code = code;
  }
}

type Call = (operation: string, argument?: unknown) => Promise<unknown>;

/** What a test says about a machine; the rest is filled in. */
export type Wanted = Partial<Omit<MachineSpec, 'guest'>> & { guest?: Partial<MachineSpec['guest']> };

/** A machine of a remote engine. */
export class RemoteMachine {
  readonly id: string;
  readonly exited: Promise<MachineExit>;
  /** The user's side is a namespace within the machine. */
  readonly hasSingleUser: boolean;
  readonly #call: Call;

  constructor(id: string, exited: Promise<MachineExit>, hasSingleUser: boolean, call: Call) {
    this.hasSingleUser = hasSingleUser;
    this.id = id;
    this.exited = exited;
    this.#call = call;
  }

  exec(command: string[], options: { stdin?: string; timeoutMs?: number } = {}): Promise<MachineExecResult> {
    return this.#call('exec', { timeoutMs: 20_000, ...options, command }) as Promise<MachineExecResult>;
  }

  /** What a shell script run by the machine's root prints, both streams together. */
  async sh(script: string): Promise<string> {
    return (await this.exec(['sh', '-c', `exec 2>&1; ${script}`])).stdout.trim();
  }

  signal = (name: string) => this.#call('signal', name);
  suspend = () => this.#call('suspend');
  resume = () => this.#call('resume');
}

/** An engine in another process. */
export class RemoteEngine {
  readonly child: ChildProcess;
  readonly report: EngineReport;
  /** Console lines of machines. */
  readonly console: string[] = [];
  readonly #calls = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  readonly #exits = new Map<string, (exit: MachineExit) => void>();
  readonly #waiting: { text: string; resolve: (line: string) => void }[] = [];
  #last = 0;

  /** Rejects with the engine's error where the host is refused. */
  static async start(command: string[], stdio: (number | 'ignore')[] = []): Promise<RemoteEngine> {
    const child = spawn(command[0]!, command.slice(1), {
      stdio: ['pipe', 'pipe', 'inherit', ...stdio],
      env: { PATH: process.env.PATH },
    });
    const lines = createInterface({ input: child.stdout! });
    const [first] = (await Promise.race([
      once(lines, 'line'),
      once(child, 'exit').then(([code]) => [`{"unusable":{"message":"ended with ${code}"}}`]),
    ])) as [string];
    const { ready, unusable } = JSON.parse(first);
    if (unusable) throw new RemoteError(unusable);
    const engine = new RemoteEngine(child, ready);
    lines.on('line', (line) => engine.#hear(JSON.parse(line)));
    return engine;
  }

  private constructor(child: ChildProcess, report: EngineReport) {
    this.child = child;
    this.report = report;
    child.stdin!.on('error', () => undefined);
  }

  async machine(id: string, spec: Wanted = {}): Promise<RemoteMachine> {
    const exited = Promise.withResolvers<MachineExit>();
    const known = this.#exits.get(id);
    this.#exits.set(id, exited.resolve);
    const guest = { cpu_kind: 'shared', cpus: 1, memory_mb: 512, ...spec.guest };
    try {
      await this.call('start', id, { app: 'app', name: id, image: 'test', env: {}, ...spec, id, guest });
    } catch (error) {
      if (known) this.#exits.set(id, known);
      throw error;
    }
    const single = this.report.summary.includes('without a range');
    return new RemoteMachine(id, exited.promise, single, (operation, argument) =>
      this.call(operation, id, argument),
    );
  }

  call(operation: string, machine?: string, argument?: unknown): Promise<unknown> {
    const call = ++this.#last;
    this.child.stdin!.write(`${JSON.stringify({ call, operation, machine, argument })}\n`);
    return new Promise((resolve, reject) => this.#calls.set(call, { resolve, reject }));
  }

  /** Resolves with the first line that a machine writes from now on, or has written, that holds `text`. */
  async printed(text: string): Promise<string> {
    const known = this.console.findLast((line) => line.includes(text));
    return known ?? new Promise((resolve) => this.#waiting.push({ text, resolve }));
  }

  async close(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    await this.call('close');
    const gone = once(this.child, 'exit');
    this.child.stdin!.end();
    await gone;
  }

  /** As `kill -9` would. */
  async die(): Promise<void> {
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
  }

  // biome-ignore lint/suspicious/noExplicitAny: lines of the engine's own making
  #hear(message: any): void {
    if (message.log !== undefined) {
      this.console.push(message.log);
      for (const { text, resolve } of this.#waiting) if (message.log.includes(text)) resolve(message.log);
    } else if (message.exit) this.#exits.get(message.machine)?.(message.exit);
    else {
      const waiting = this.#calls.get(message.call);
      this.#calls.delete(message.call);
      if (message.error) waiting?.reject(new RemoteError(message.error));
      else waiting?.resolve(message.result);
    }
  }
}
