import type { AgentHub } from '../agents/hub.ts';
import type { AgentLink } from '../agents/link.ts';
import type { PackObject, PackResult, RestoreRequest, RestoreResult } from '../agents/wire.ts';
import { CodedError } from '../errors.ts';
import type { Store } from '../store/index.ts';
import type { ManifestRow, SandboxRow } from '../store/rows.ts';
import type { WorkspaceStorage } from './storage.ts';

export interface SaveOutcome {
  /** Newest version afterwards; 0 when nothing was ever saved. */
  version: number;
  changed: boolean;
  files: number;
  bytes: number;
  /** Paths that can't be saved, with the reason. */
  left_out?: string[];
}

export interface FilesDeps {
  store: Pick<Store, 'getSession' | 'findManifest' | 'commitManifest'>;
  storage: WorkspaceStorage;
  hub: AgentHub;
}

/** How long an agent that is not connected now is waited for. */
const AGENT_MS = 5_000;
/** Walking and hashing a large tree on one shared CPU. */
const PACK_TIMEOUT_MS = 120_000;
/** One upload or download of everything, through a proxy, on a small machine. */
const TRANSFER_TIMEOUT_MS = 300_000;

/**
 * A session's files, to storage and back. The bytes travel between agent and storage; this side signs URLs, checks what has arrived and
 * commits. A save that has returned is committed: nothing before that changes what a later restore gives.
 */
export class WorkspaceFiles {
  readonly #deps: FilesDeps;
  readonly #saving = new Map<string, Promise<SaveOutcome>>();

  constructor(deps: FilesDeps) {
    this.#deps = deps;
  }

  /**
   * Saves the files where they have changed. Rejects with the agent's or storage's error, `save_failed` when what arrived is not what
   * was sent, `save_conflict`, or `fenced` when the sandbox is no longer the session's newest.
   */
  async save(sandbox: SandboxRow): Promise<SaveOutcome> {
    // One at a time: the one under way may have packed before what this caller wants saved was written.
    const before = this.#saving.get(sandbox.name);
    const mine = (before ?? Promise.resolve()).then(
      () => this.#save(sandbox),
      () => this.#save(sandbox),
    );
    this.#saving.set(sandbox.name, mine);
    try {
      return await mine;
    } finally {
      if (this.#saving.get(sandbox.name) === mine) this.#saving.delete(sandbox.name);
    }
  }

  /** Brings the newest version into the sandbox and checks that all of it is there. Safe to repeat. */
  async restore(sandbox: SandboxRow): Promise<RestoreResult> {
    const link = await this.#link(sandbox);
    const head = await this.#head(sandbox);
    const request: RestoreRequest =
      head === null ? { version: 0 } : await this.#restoreRequest(sandbox, head);
    const result = await post<RestoreResult>(link, '/workspace/restore', request, TRANSFER_TIMEOUT_MS);
    const expected = { version: head?.version ?? 0, files: head?.files ?? 0, bytes: head?.file_bytes ?? 0 };
    for (const field of ['version', 'files', 'bytes'] as const) {
      if (result[field] === expected[field]) continue;
      const detail = `Restored ${field} is ${result[field]}, expected ${expected[field]} of version ${expected.version}`;
      throw new CodedError('restore_failed', detail);
    }
    return result;
  }

  async #save(sandbox: SandboxRow): Promise<SaveOutcome> {
    const link = await this.#link(sandbox);
    const head = await this.#head(sandbox);
    const base = head?.version ?? 0;
    const pack = await post<PackResult>(
      link,
      '/workspace/pack',
      { base, ...(head === null ? {} : { base_sha256: head.sha256 }) },
      PACK_TIMEOUT_MS,
    );
    if (!pack.changed) {
      return { version: base, changed: false, files: head?.files ?? 0, bytes: head?.file_bytes ?? 0 };
    }
    await this.#upload(sandbox, link, pack);
    const committed = await this.#deps.store.commitManifest({
      sessionId: sandbox.session_id,
      fence: sandbox.fence,
      base,
      sha256: pack.manifest.sha256,
      bytes: pack.manifest.bytes,
      packs: pack.packs,
      files: pack.files,
      fileBytes: pack.bytes,
      actor: 'lifecycle',
    });
    const { files, bytes, left_out } = pack;
    return { version: committed.version, changed: true, files, bytes, ...(left_out && { left_out }) };
  }

  /** Has the agent upload manifest and packs, and checks each one's size where it lies. */
  async #upload(sandbox: SandboxRow, link: AgentLink, pack: PackResult & { changed: true }): Promise<void> {
    const { storage } = this.#deps;
    const objects = [
      { key: manifestKey(sandbox.session_id, pack.manifest), ...pack.manifest },
      ...pack.packs.map((object) => ({ key: packKey(sandbox.session_id, object), ...object })),
    ];
    const signed = await Promise.all(
      objects.map(async ({ key, sha256 }) => [sha256, await storage.signUpload(key)] as const),
    );
    await post(
      link,
      '/workspace/upload',
      { pack_id: pack.pack_id, urls: Object.fromEntries(signed) },
      TRANSFER_TIMEOUT_MS,
    );
    for (const { key, bytes } of objects) {
      const stored = await storage.size(key);
      if (stored !== bytes) {
        throw new CodedError(
          'save_failed',
          `${key} has ${stored ?? 'no'} bytes in storage, expected ${bytes}`,
        );
      }
    }
  }

  async #restoreRequest(sandbox: SandboxRow, head: ManifestRow): Promise<RestoreRequest> {
    const { storage } = this.#deps;
    const manifest = { sha256: head.sha256, bytes: head.bytes };
    const keys = [
      manifestKey(sandbox.session_id, manifest),
      ...head.packs.map((pack) => packKey(sandbox.session_id, pack)),
    ];
    const [url, ...packUrls] = await storage.signDownloads(keys);
    return {
      version: head.version,
      manifest: { ...manifest, url: url! },
      packs: head.packs.map((pack, index) => ({ ...pack, url: packUrls[index]! })),
    };
  }

  async #head(sandbox: SandboxRow): Promise<ManifestRow | null> {
    const { head } = await this.#deps.store.getSession(sandbox.session_id);
    if (head === 0) return null;
    const manifest = await this.#deps.store.findManifest(sandbox.session_id, head);
    if (manifest === null)
      throw new CodedError('internal', `Version ${head} of ${sandbox.session_id} has no manifest`);
    return manifest;
  }

  #link(sandbox: SandboxRow): Promise<AgentLink> {
    return this.#deps.hub.waitFor(sandbox.name, { timeoutMs: AGENT_MS });
  }
}

function manifestKey(session: string, object: PackObject): string {
  return `s/${session}/m/${object.sha256}`;
}

function packKey(session: string, object: PackObject): string {
  return `s/${session}/p/${object.sha256}`;
}

async function post<T>(link: AgentLink, path: string, body: unknown, timeoutMs: number): Promise<T> {
  const reply = await link.request({
    method: 'POST',
    path,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    timeoutMs,
  });
  return reply.expect<T>();
}
