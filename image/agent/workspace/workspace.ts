import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type {
  PackRequest,
  PackResult,
  RestoreRequest,
  RestoreResult,
  Unsaved,
  UnsavedRequest,
  UploadRequest,
  WorkspaceState,
} from '../../../controller/agents/wire.ts';
import { Fault } from '../fault.ts';
import type { Beneath } from '../files/beneath.ts';
import { removeTree } from '../files/change.ts';
import { isOwnName } from '../files/own.ts';
import type { Progress } from '../http/long.ts';
import { log } from '../log.ts';
import type { Gate } from '../seal/gate.ts';
import type { Owner } from '../user/side.ts';
import type { EgressProxy } from './connect.ts';
import type { Run } from './look.ts';
import type { Packer, Quiet } from './pack.ts';
import { StateFile } from './state.ts';
import { Versions } from './versions.ts';

export interface WorkspaceParts {
  tree: Beneath;
  stateDir: string;
  sandbox: string;
  owner: Owner | undefined;
  proxy: EgressProxy | undefined;
  gate: Gate;
  /** Default: nothing is held. */
  quiet?: Quiet;
  now: () => number;
  random: () => number;
}

const NOTHING: RestoreResult = { version: 0, files: 0, bytes: 0 };

/** The files of the session as a whole: which version they began with, and how they are saved. */
export class Workspace {
  readonly #parts: WorkspaceParts;
  readonly #packDir: string;
  readonly #session: string;
  readonly #stateFile: StateFile;
  readonly #versions: Versions;
  readonly #watchers = new Set<Progress>();
  #packer: Promise<Packer> | undefined;
  #state: WorkspaceState = { state: 'pristine' };
  #restoring: Promise<RestoreResult> | undefined;
  #restored = NOTHING;

  private constructor(parts: WorkspaceParts) {
    this.#parts = parts;
    this.#session = sessionOf(parts.sandbox);
    this.#stateFile = new StateFile(parts.stateDir, parts.sandbox);
    this.#versions = new Versions(join(parts.stateDir, 'versions'), this.#session);
    this.#packDir = join(parts.stateDir, 'packs');
    rmSync(this.#packDir, { recursive: true, force: true });
    mkdirSync(this.#packDir, { recursive: true, mode: 0o700 });
  }

  /** Goes on from where an earlier agent of this machine was: what it had restored is ready, what it was restoring is undone. */
  static async open(parts: WorkspaceParts): Promise<Workspace> {
    const workspace = new Workspace(parts);
    await workspace.#recover();
    return workspace;
  }

  get state(): WorkspaceState {
    return this.#state;
  }

  async pack(request: PackRequest, run: Run): Promise<PackResult> {
    return (await this.#packing()).pack(request, run);
  }

  /** Hashes of all objects of the run. */
  async upload({ pack_id, urls }: UploadRequest, progress: Progress, signal: AbortSignal): Promise<string[]> {
    const spool = (await this.#packing()).spool(pack_id);
    const { upload } = await import('./upload.ts');
    const { proxy, random } = this.#parts;
    return upload(spool, urls, { proxy, progress, signal }, { random, signal });
  }

  async unsaved(request: UnsavedRequest, stillWanted: () => void): Promise<Unsaved> {
    return (await this.#packing()).unsaved(request, stillWanted);
  }

  async tar(): Promise<Readable> {
    const { tarOf } = await import('./tar.ts');
    return tarOf(this.#parts.tree, this.#uid);
  }

  /** Repeated with the same version it joins or does nothing; a failure leaves the workspace pristine. */
  async restore(request: RestoreRequest, progress: Progress = () => {}): Promise<RestoreResult> {
    await this.#parts.gate.admit(() => {});
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
    this.#watchers.add(progress);
    try {
      return await this.#restoring;
    } finally {
      this.#watchers.delete(progress);
    }
  }

  async #restore(request: RestoreRequest): Promise<RestoreResult> {
    const { version } = request;
    this.#state = { state: 'restoring', version };
    try {
      const restored = version > 0 ? await this.#bringBack(request) : NOTHING;
      this.#stateFile.write({ state: 'ready', ...restored });
      this.#restored = restored;
    } catch (error) {
      this.#state = { state: 'pristine' };
      throw error;
    }
    this.#state = { state: 'ready', version };
    return this.#restored;
  }

  async #bringBack(request: RestoreRequest): Promise<RestoreResult> {
    const { tree, owner, proxy, gate, random } = this.#parts;
    const [{ restore }, { countFiles }] = await Promise.all([
      import('./restore.ts'),
      import('./manifest.ts'),
    ]);
    const { version } = request;
    const progress: Progress = (...done) => {
      for (const watcher of this.#watchers) watcher(...done);
    };
    const { manifest, manifestBytes } = await restore(request, {
      tree,
      owner,
      session: this.#session,
      way: { proxy, progress },
      patience: { random },
      change: (moveIn) =>
        gate.admit((still) => {
          still();
          this.#stateFile.write({ state: 'moving', version });
          try {
            moveIn();
          } catch (error) {
            this.#stateFile.clear();
            throw error;
          }
        }),
    });
    await this.#versions.know(request.manifest!.sha256, manifestBytes, manifest.entries);
    return { version, ...countFiles(manifest) };
  }

  async #recover(): Promise<void> {
    const kept = this.#stateFile.read();
    if (kept?.state === 'ready') {
      const { version, files, bytes } = kept;
      this.#restored = { version, files, bytes };
      this.#state = { state: 'ready', version };
    }
    const cutOff = kept?.state === 'moving';
    if (cutOff) log('warn', 'a restore was cut off and is undone', { version: kept.version });
    using root = this.#parts.tree.find('');
    for (const name of readdirSync(root.at)) {
      // What the earlier agent had not finished lies there under our own name.
      if (cutOff || isOwnName(name)) await removeTree(`${root.parent}/${name}`);
    }
    if (cutOff) this.#stateFile.clear();
  }

  get #uid(): number {
    return this.#parts.owner?.uid ?? process.getuid!();
  }

  /** Loaded when first needed: tar and zstd have no part in starting up. */
  #packing(): Promise<Packer> {
    const { tree, now, quiet = unheld } = this.#parts;
    this.#packer ??= import('./pack.ts').then(
      ({ Packer }) =>
        new Packer({
          tree,
          dir: this.#packDir,
          session: this.#session,
          uid: this.#uid,
          versions: this.#versions,
          quiet,
          now,
        }),
    );
    return this.#packer;
  }
}

const unheld: Quiet = async (work) => ({ value: await work(), atomic: false, pausedMs: 0 });

/** `s-<session>-<incarnation>` */
function sessionOf(sandbox: string): string {
  return /^s-(.+)-\d+$/.exec(sandbox)?.[1] ?? sandbox;
}
