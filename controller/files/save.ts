import type { AgentHub } from '../agents/hub.ts';
import type { AgentLink } from '../agents/link.ts';
import type { PackRequest, PackResult, UploadRequest, UploadResult } from '../agents/wire.ts';
import { CodedError } from '../errors.ts';
import type { Store } from '../store/index.ts';
import type { ManifestRow, SandboxRow } from '../store/rows.ts';
import { AgentFailure, longAnswer } from './long-answer.ts';
import type { ObjectSize } from './object-size.ts';
import { objectsOf, type StoredObject } from './objects.ts';
import type { WorkspaceStorage } from './storage.ts';
import type { FairTurns } from './turns.ts';
import { isTooLarge, storageAdvice } from './verdict.ts';

export interface SaveParts {
  store: Pick<Store, 'getSession' | 'findManifest' | 'commitManifest' | 'saveDone'>;
  storage: WorkspaceStorage;
  hub: Pick<AgentHub, 'waitFor'>;
  objectSize: ObjectSize;
  /** Calls of the storage, and commits: what all sandboxes share. No turn is held while bytes flow. */
  asking: FairTurns;
  committing: FairTurns;
  /** Keys of objects that were found damaged: uploaded again although they are there. */
  suspects: Set<string>;
  silenceMs: number;
}

export interface SaveOptions {
  /** The user's processes are held still for at most so long. */
  pauseMs: number;
  signal?: AbortSignal | undefined;
  /** There are changes, and they will be uploaded. */
  onChanged: () => void;
}

export interface Saved {
  version: number;
  changed: boolean;
  files: number;
  bytes: number;
  left_out?: string[];
  /** False: user code could not be held still for as long as that took, and changed files meanwhile. */
  atomic?: boolean;
  /** Bytes that had to be uploaded. */
  uploaded: number;
}

type Changed = PackResult & { changed: true };

const ACTOR = 'lifecycle';
/** How long an agent that is not connected now is waited for. */
const AGENT_MS = 5_000;

/** One save: pack, upload what the storage does not have, check, commit. Once that has returned, the version is what a restore gives. */
export async function saveOnce(
  parts: SaveParts,
  sandbox: SandboxRow,
  { pauseMs, signal, onChanged }: SaveOptions,
): Promise<Saved> {
  const link = await parts.hub.waitFor(sandbox.name, { timeoutMs: AGENT_MS, ...(signal && { signal }) });
  const session = await parts.store.getSession(sandbox.session_id);
  const head = await manifestOf(parts.store, sandbox.session_id, session.head);
  const call = { signal, silenceMs: parts.silenceMs };
  // Of a damaged version, what is the same is uploaded again as well.
  const isSound =
    head !== null && !objectsOf(head.session_id, head, head.packs).some(({ key }) => parts.suspects.has(key));
  for (;;) {
    const object_bytes = await parts.objectSize.current();
    const request: PackRequest = {
      base: session.head,
      ...(isSound && { base_sha256: head.sha256 }),
      object_bytes,
      pause_ms: pauseMs,
    };
    const pack = await longAnswer<PackResult>(link, '/workspace/pack', request, call);
    if (!pack.changed) {
      if (session.save.state === 'failing') await parts.store.saveDone(sandbox, ACTOR);
      return { ...sizeOf(head), version: session.head, changed: false, uploaded: 0 };
    }
    onChanged();
    const uploaded = await upload(parts, sandbox, { link, pack, call, tried: object_bytes });
    // Objects were too large: packed again in smaller ones.
    if (uploaded === null) continue;
    signal?.throwIfAborted();
    const version = await commit(parts, sandbox, session.head, pack);
    const { files, bytes, left_out, atomic } = pack;
    return { version, changed: true, files, bytes, ...(left_out && { left_out }), atomic, uploaded };
  }
}

interface Upload {
  link: AgentLink;
  pack: Changed;
  call: { signal: AbortSignal | undefined; silenceMs: number };
  /** What the pack's objects were cut for. */
  tried: number;
}

/** The bytes that were sent; null when an object was refused for its size and a smaller one may be taken. */
async function upload(
  parts: SaveParts,
  sandbox: SandboxRow,
  { link, pack, call, tried }: Upload,
): Promise<number | null> {
  const { storage, asking, suspects } = parts;
  const objects = objectsOf(sandbox.session_id, pack.manifest, pack.packs);
  const sizes = (of: readonly StoredObject[]) =>
    asking.each(sandbox.name, of, ({ key }) => storage.size(key));
  const present = await sizes(objects);
  const missing = objects.filter(({ key, bytes }, at) => present[at] !== bytes || suspects.has(key));
  if (missing.length === 0) return 0;
  call.signal?.throwIfAborted();
  const send = async (wanted: readonly StoredObject[]) => {
    const urls = await asking.each(sandbox.name, wanted, ({ key }) => storage.signUpload(key));
    const request: UploadRequest = {
      pack_id: pack.pack_id,
      urls: Object.fromEntries(wanted.map(({ sha256 }, at) => [sha256, urls[at]!])),
    };
    await longAnswer<UploadResult>(link, '/workspace/upload', request, call);
  };
  try {
    await send(missing).catch((error: unknown) => {
      // An agent that does not know that storage has the others, and insists on sending all.
      if (error instanceof AgentFailure && error.field === 'urls') return send(objects);
      throw error;
    });
  } catch (error) {
    if (!(error instanceof AgentFailure)) throw error;
    const refused = missing.find(({ sha256 }) => sha256 === error.object);
    if (isSizeRefused(error) && refused?.sha256 !== pack.manifest.sha256) {
      if (parts.objectSize.refused(refused?.bytes ?? tried, tried)) return null;
    }
    throw explained(error, refused);
  }
  const stored = await sizes(missing);
  for (const [at, { key, bytes }] of missing.entries()) {
    if (stored[at] !== bytes) {
      const detail = `${key} has ${stored[at] ?? 'no'} bytes in storage, expected ${bytes}`;
      throw new CodedError('save_failed', detail);
    }
    suspects.delete(key);
  }
  return missing.reduce((sum, { bytes }) => sum + bytes, 0);
}

async function commit(parts: SaveParts, sandbox: SandboxRow, base: number, pack: Changed): Promise<number> {
  const committed = await parts.committing.run(sandbox.name, () =>
    parts.store.commitManifest({
      sessionId: sandbox.session_id,
      fence: sandbox.fence,
      base,
      sha256: pack.manifest.sha256,
      bytes: pack.manifest.bytes,
      packs: pack.packs,
      files: pack.files,
      fileBytes: pack.bytes,
      actor: ACTOR,
    }),
  );
  return committed.version;
}

/** The version's row; null for version 0, which holds nothing. */
export async function manifestOf(
  store: Pick<Store, 'findManifest'>,
  session: string,
  version: number,
): Promise<ManifestRow | null> {
  if (version === 0) return null;
  const manifest = await store.findManifest(session, version);
  if (manifest === null) throw new CodedError('internal', `Version ${version} of ${session} has no manifest`);
  return manifest;
}

function sizeOf(manifest: ManifestRow | null): { files: number; bytes: number } {
  return { files: manifest?.files ?? 0, bytes: manifest?.file_bytes ?? 0 };
}

function isSizeRefused({ code, answered, detail }: AgentFailure): boolean {
  return code === 'storage_full' && isTooLarge({ status: answered, message: detail });
}

/** What the storage told the agent, with the setting to change. */
export function explained(error: AgentFailure, refused?: StoredObject): CodedError {
  if (!['storage_full', 'storage_refused'].includes(error.code)) return error;
  const size = refused === undefined ? '' : ` (${refused.bytes} bytes)`;
  const advice = storageAdvice({ status: error.answered ?? STATUS[error.code], message: error.detail });
  return new CodedError(error.code, `${error.detail}${size}; ${advice}`, { cause: error });
}

/** Where the agent did not say what the storage answered. */
const STATUS: Record<string, number> = { storage_full: 402, storage_refused: 403 };
