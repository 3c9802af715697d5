import { type Database, row } from './database.ts';
import type { ManifestRow } from './rows.ts';

export interface NewManifest {
  sessionId: string;
  fence: number;
  /** Version that this one was made from; the commit is refused with `save_conflict` when it is not the head. */
  base: number;
  sha256: string;
  bytes: number;
  packs: { sha256: string; bytes: number }[];
  files: number;
  fileBytes: number;
  actor: string;
}

export function manifestStore(database: Database) {
  return {
    commitManifest(manifest: NewManifest) {
      return row<ManifestRow>(
        'manifest_commit',
        database.rpc('manifest_commit', {
          p_session: manifest.sessionId,
          p_fence: manifest.fence,
          p_base: manifest.base,
          p_sha256: manifest.sha256,
          p_bytes: manifest.bytes,
          p_packs: manifest.packs,
          p_files: manifest.files,
          p_file_bytes: manifest.fileBytes,
          p_actor: manifest.actor,
        }),
      );
    },
  };
}
