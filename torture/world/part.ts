import { type Child, type ChildOptions, startChild } from '../../local/stack/child.ts';
import { pause } from '../pause.ts';
import { look, type Process, signal } from './processes.ts';

const AGAIN_MS = 500;

/** A part of the world that may be killed, and is then started again with the same arguments. */
export class Part<Ready extends { ready: true }> {
  readonly name: string;
  readonly #options: () => ChildOptions;
  readonly #ended: AbortSignal;
  #child: Child<Ready> | undefined;
  #starting: Promise<void> | undefined;

  constructor(name: string, options: () => ChildOptions, ended: AbortSignal) {
    this.name = name;
    this.#options = options;
    this.#ended = ended;
  }

  get ready(): Ready {
    return this.#child!.ready;
  }

  /** Undefined while it does not run. */
  get process(): Process | undefined {
    return this.#child === undefined ? undefined : look(this.#child.pid);
  }

  async start(): Promise<void> {
    this.#child = await startChild<Ready>(this.#options());
  }

  /** Ends at once, and is not started again until `revive`. */
  async kill(): Promise<void> {
    const { process } = this;
    if (process !== undefined) signal(process, 'SIGKILL');
    await this.#child?.exited;
  }

  /** Starts it if it does not run, as often as it takes: it may need another part that is down as well. */
  revive(): Promise<void> {
    this.#starting ??= this.#revive().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async stop(): Promise<void> {
    await this.#starting;
    const { process } = this;
    if (process !== undefined) signal(process, 'SIGCONT');
    await this.#child?.stop();
  }

  async #revive(): Promise<void> {
    for (;;) {
      const gone = this.#child === undefined ? true : look(this.#child.pid) === undefined;
      if (!gone || this.#ended.aborted) return;
      await this.#child?.exited;
      try {
        await this.start();
      } catch {
        await pause(AGAIN_MS, this.#ended);
      }
    }
  }
}
