import { randomBytes } from 'node:crypto';
import { constants, unlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type { AgentHealth, WorkspaceState } from '../../controller/agents/wire.ts';
import { Fault } from './fault.ts';
import type { Beneath } from './files/beneath.ts';
import { OWN_NAME } from './files/own.ts';

export const VERSION = '0.1.0';
const PROOF_BYTES = 4096;
const CREATE = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

export interface HealthParts {
  sandbox: string;
  bootId: string;
  tree: Beneath;
  now: () => number;
  workspace: () => WorkspaceState;
  runningExecs: () => number;
}

/** Says how the machine is. Throws where its disk doesn't give back what was written. */
export class Health {
  readonly #parts: HealthParts;
  readonly #startedAt: number;

  constructor(parts: HealthParts) {
    this.#parts = parts;
    this.#startedAt = parts.now();
  }

  async check(): Promise<AgentHealth> {
    const { sandbox, bootId, tree, now, workspace, runningExecs } = this.#parts;
    const began = now();
    await proveDisk(tree);
    return {
      sandbox,
      boot_id: bootId,
      version: VERSION,
      started_at: this.#startedAt,
      disk_ms: now() - began,
      workspace: workspace(),
      running_execs: runningExecs(),
    };
  }
}

/** Writes, syncs, reads back and removes a page on the workspace's file system. */
async function proveDisk(tree: Beneath): Promise<void> {
  const proof = randomBytes(PROOF_BYTES);
  using place = tree.find(`${OWN_NAME}.${randomBytes(8).toString('hex')}`);
  const handle = await open(place.at, CREATE, 0o600);
  try {
    unlinkSync(place.at);
    await handle.write(proof, 0, PROOF_BYTES, 0);
    await handle.sync();
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(PROOF_BYTES), 0, PROOF_BYTES, 0);
    if (bytesRead !== PROOF_BYTES || !buffer.equals(proof)) {
      throw new Fault('internal', 'The disk does not give back what was written to it');
    }
  } finally {
    await handle.close();
  }
}
