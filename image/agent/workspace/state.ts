import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RestoreResult } from '../../../controller/agents/wire.ts';

/** What a later agent of the same machine has to know of the workspace. */
export type KeptState =
  /** A version is being moved in: what is there is a part of it, and nobody's work. */
  { state: 'moving'; version: number } | ({ state: 'ready' } & RestoreResult);

/** `workspace.json` in the agent's folder. */
export class StateFile {
  readonly #path: string;
  readonly #sandbox: string;

  constructor(stateDir: string, sandbox: string) {
    this.#path = join(stateDir, 'workspace.json');
    this.#sandbox = sandbox;
  }

  /** Undefined: nothing was ever restored here. */
  read(): KeptState | undefined {
    try {
      const { sandbox, ...state } = JSON.parse(readFileSync(this.#path, 'utf8'));
      return sandbox === this.#sandbox ? state : undefined;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  write(state: KeptState): void {
    writeFileSync(`${this.#path}.new`, JSON.stringify({ sandbox: this.#sandbox, ...state }), { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
  }

  clear(): void {
    rmSync(this.#path, { force: true });
  }
}
