import type { Logger } from 'pino';
import type { AgentLink } from '../agents/link.ts';
import type { RestoreRequest, RestoreResult } from '../agents/wire.ts';
import type { Config } from '../config.ts';
import { CodedError } from '../errors.ts';
import type { Store } from '../store/index.ts';
import type { ManifestRow, SandboxRow } from '../store/rows.ts';
import { AgentFailure, longAnswer } from './long-answer.ts';
import { objectsOf } from './objects.ts';
import { explained } from './save.ts';
import type { WorkspaceStorage } from './storage.ts';
import type { FairTurns } from './turns.ts';
import { findWhole, type WholeVersions } from './whole.ts';

export interface RestoreParts {
  store: Pick<Store, 'getSession' | 'findManifest'>;
  storage: WorkspaceStorage;
  asking: FairTurns;
  suspects: Set<string>;
  onDamage: Config['onDamage'];
  log: Logger;
  silenceMs: number;
}

export interface Restored extends RestoreResult {
  /** The newest version, which is damaged and was left out, and what is wrong with it. */
  instead_of?: { version: number; detail: string };
}

/**
 * Brings the version that the sandbox is to begin with into it: the one it was opened with, else the newest. A damaged one is told at once,
 * with those that are whole; where the stack says so, the newest of these is taken instead, but never for one that a caller has named.
 */
export async function restoreWanted(
  parts: RestoreParts,
  sandbox: SandboxRow,
  link: AgentLink,
): Promise<Restored> {
  const { head } = await parts.store.getSession(sandbox.session_id);
  const named = sandbox.restore_version ?? null;
  const version = named ?? head;
  try {
    return await restoreVersion(parts, sandbox, link, version, head);
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'version_damaged') throw error;
    const whole = await findWhole(parts, sandbox, head);
    if (parts.onDamage === 'newest_whole' && named === null) {
      const restored = await newestWhole(parts, sandbox, link, { head, whole });
      if (restored !== null) {
        const done = { sandbox: sandbox.name, version, restored: restored.version, detail: error.detail };
        parts.log.error(done, 'the newest version is damaged: an older one was restored');
        return { ...restored, instead_of: { version, detail: error.detail } };
      }
    }
    throw new CodedError('version_damaged', `${error.detail}. ${told(whole, version)}`, { cause: error });
  }
}

async function newestWhole(
  parts: RestoreParts,
  sandbox: SandboxRow,
  link: AgentLink,
  { head, whole }: { head: number; whole: WholeVersions },
): Promise<RestoreResult | null> {
  for (const version of whole.versions) {
    if (version >= head) continue;
    try {
      return await restoreVersion(parts, sandbox, link, version, head);
    } catch (error) {
      if (!(error instanceof CodedError) || error.code !== 'version_damaged') throw error;
      parts.log.error(
        { sandbox: sandbox.name, version, detail: error.detail },
        'this version is damaged, too',
      );
    }
  }
  return null;
}

async function restoreVersion(
  parts: RestoreParts,
  sandbox: SandboxRow,
  link: AgentLink,
  version: number,
  head: number,
): Promise<RestoreResult> {
  const manifest = version === 0 ? null : await parts.store.findManifest(sandbox.session_id, version);
  if (version !== 0 && manifest === null) {
    const detail = `Session "${sandbox.session_id}" has no version ${version}; its newest is ${head}`;
    throw new CodedError('version_not_found', detail);
  }
  const request = manifest === null ? { version: 0 } : await requestOf(parts, sandbox, manifest);
  const result = await longAnswer<RestoreResult>(link, '/workspace/restore', request, {
    silenceMs: parts.silenceMs,
  }).catch((error: unknown) => {
    throw manifest === null ? error : damageOf(parts, manifest, error);
  });
  const expected = { version, files: manifest?.files ?? 0, bytes: manifest?.file_bytes ?? 0 };
  for (const field of ['version', 'files', 'bytes'] as const) {
    if (result[field] === expected[field]) continue;
    const detail = `Restored ${field} is ${result[field]}, expected ${expected[field]} of version ${version}`;
    throw new CodedError('restore_failed', detail);
  }
  return result;
}

async function requestOf(
  { storage, asking, suspects }: RestoreParts,
  sandbox: SandboxRow,
  manifest: ManifestRow,
): Promise<RestoreRequest> {
  const objects = objectsOf(sandbox.session_id, manifest, manifest.packs);
  const signed = await asking.run(sandbox.name, () => storage.signDownloads(objects.map(({ key }) => key)));
  const urls = new Map<string, string>();
  for (const [at, { key, sha256 }] of objects.entries()) {
    const url = signed[at];
    if (url) urls.set(sha256, url);
    else throw damaged(suspects, manifest, key, 'missing');
  }
  const { version, sha256, bytes, packs } = manifest;
  return {
    version,
    manifest: { sha256, bytes, url: urls.get(sha256)! },
    packs: packs.map((pack) => ({ sha256: pack.sha256, bytes: pack.bytes, url: urls.get(pack.sha256)! })),
  };
}

/** What the agent says of an object, as a fault of the version. */
function damageOf({ suspects }: RestoreParts, manifest: ManifestRow, error: unknown): unknown {
  if (!(error instanceof AgentFailure)) return error;
  if (error.code !== 'version_damaged') return explained(error);
  const objects = objectsOf(manifest.session_id, manifest, manifest.packs);
  const object = objects.find(({ sha256 }) => sha256 === error.object);
  if (object === undefined) {
    return new CodedError('version_damaged', `Version ${manifest.version}: ${error.detail}`, {
      cause: error,
    });
  }
  return damaged(suspects, manifest, object.key, error.detail);
}

function damaged(
  suspects: Set<string>,
  { version, sha256 }: ManifestRow,
  key: string,
  how: string,
): CodedError {
  suspects.add(key);
  const what = key.endsWith(`/m/${sha256}`) ? 'its manifest' : 'a part of it';
  return new CodedError(
    'version_damaged',
    `Version ${version} can't be restored: ${what}, ${key}, is at fault (${how})`,
  );
}

function told({ versions, looked, cut }: WholeVersions, version: number): string {
  const others = versions.filter((other) => other !== version);
  const among = `of the newest ${looked}${cut ? ', as far as could be looked at' : ''}`;
  if (others.length === 0) return `No version is whole ${among}`;
  return `Whole by their sizes ${among}: ${others.join(', ')}. Open the session with one of these as its version`;
}
