import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type {
  PackRequest,
  PackResult,
  RestoreRequest,
  RestoreResult,
  UploadRequest,
  WorkspaceState,
} from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Beneath } from '../files/beneath.ts';
import type { Owner } from '../user/side.ts';
import type { EgressProxy } from './connect.ts';
import type { Packer } from './pack.ts';

export interface WorkspaceParts {
  tree: Beneath;
  stateDir: string;
  sandbox: string;
  owner: Owner | undefined;
  proxy: EgressProxy | undefined;
  now: () => number;
}

/** The files of the session as a whole: which version they began with, and how they are saved. */
export class Workspace {
  readonly #parts: WorkspaceParts;
  readonly #packDir: string;
  readonly #session: string;
  #packer: Promise<Packer> | undefined;
  #state: WorkspaceState = { state: 'pristine' };
  #restoring: Promise<RestoreResult> | undefined;
  #restored: RestoreResult = { version: 0, files: 0, bytes: 0 };

  constructor(parts: WorkspaceParts) {
    this.#parts = parts;
    this.#session = sessionOf(parts.sandbox);
    this.#packDir = join(parts.stateDir, 'packs');
    rmSync(this.#packDir, { recursive: true, force: true });
    mkdirSync(this.#packDir, { recursive: true, mode: 0o700 });
  }

  get state(): WorkspaceState {
    return this.#state;
  }

  async pack(request: PackRequest, stillWanted: () => void): Promise<PackResult> {
    return (await this.#packing()).pack(request, stillWanted);
  }

  async upload({ pack_id, urls }: UploadRequest): Promise<void> {
    const spool = (await this.#packing()).spool(pack_id);
    const { upload } = await import('./upload.ts');
    await upload(spool, urls, this.#parts.proxy);
  }

  /** Repeated with the same version it joins or does nothing; a failure leaves the workspace pristine. */
  async restore(request: RestoreRequest): Promise<RestoreResult> {
    const { version } = request;
    const state = this.#state;
    if (state.state !== 'pristine' && state.version !== version) {
      const detail = `The workspace is ${state.state} with version ${state.version}, it can't become version ${version}`;
      throw new Fault('restore_failed', detail, { field: 'version' });
    }
    if (state.state === 'ready') return this.#restored;
    this.#restoring ??= this.#restore(request).finally(() => {
      this.#restoring = undefined;
    });
    return this.#restoring;
  }

  async #restore(request: RestoreRequest): Promise<RestoreResult> {
    const { version } = request;
    if (version > 0) {
      this.#state = { state: 'restoring', version };
      try {
        this.#restored = await this.#bringBack(request);
      } catch (error) {
        this.#state = { state: 'pristine' };
        throw error;
      }
    }
    this.#state = { state: 'ready', version };
    return this.#restored;
  }

  async #bringBack(request: RestoreRequest): Promise<RestoreResult> {
    const [{ restore }, { countFiles }] = await Promise.all([
      import('./restore.ts'),
      import('./manifest.ts'),
    ]);
    const manifest = await restore(request, { ...this.#parts, session: this.#session });
    (await this.#packing()).know(request.manifest!.sha256, manifest.entries);
    return { version: request.version, ...countFiles(manifest) };
  }

  /** Loaded when first needed: tar and zstd have no part in starting up. */
  #packing(): Promise<Packer> {
    this.#packer ??= import('./pack.ts').then(
      ({ Packer }) =>
        new Packer({
          tree: this.#parts.tree,
          dir: this.#packDir,
          session: this.#session,
          uid: this.#parts.owner?.uid ?? process.getuid!(),
          now: this.#parts.now,
        }),
    );
    return this.#packer;
  }
}

/** `s-<session>-<incarnation>` */
function sessionOf(sandbox: string): string {
  return /^s-(.+)-\d+$/.exec(sandbox)?.[1] ?? sandbox;
}
