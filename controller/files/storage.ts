import { CodedError } from '../errors.ts';
import type { Database } from '../store/index.ts';

const BUCKET = 'workspaces';
/** A restore that takes longer than this has failed. */
const DOWNLOAD_URL_S = 3_600;
/** Supabase signs at most so many at once (storage-js, `createSignedUrls`). */
const MOST_SIGNED_AT_ONCE = 1000;

export interface WorkspaceStorage {
  /** A URL that takes one PUT. An object that is there already may be written again: its key says its content. */
  signUpload(key: string): Promise<string>;
  signDownloads(keys: string[]): Promise<string[]>;
  /** Bytes of the stored object; null when there is none. */
  size(key: string): Promise<number | null>;
}

/** Supabase Storage. Rejects with `storage_unavailable`. */
export function workspaceStorage(database: Database): WorkspaceStorage {
  const bucket = () => database.storage.from(BUCKET);

  return {
    async signUpload(key) {
      const answer = await bucket().createSignedUploadUrl(key, { upsert: true });
      if (answer.error !== null) throw unavailable('sign an upload', answer.error);
      return answer.data.signedUrl;
    },

    async signDownloads(keys) {
      const urls: string[] = [];
      for (let at = 0; at < keys.length; at += MOST_SIGNED_AT_ONCE) {
        const answer = await bucket().createSignedUrls(
          keys.slice(at, at + MOST_SIGNED_AT_ONCE),
          DOWNLOAD_URL_S,
        );
        if (answer.error !== null) throw unavailable('sign downloads', answer.error);
        for (const { path, signedUrl, error } of answer.data) {
          if (signedUrl === null)
            throw new CodedError('restore_failed', `${path} can't be downloaded: ${error}`);
          urls.push(signedUrl);
        }
      }
      return urls;
    },

    async size(key) {
      const answer = await bucket().info(key);
      if (answer.error === null) return answer.data.size ?? null;
      // Storage answers its own errors with HTTP 400 and the real status in the body.
      const { statusCode } = answer.error as { statusCode?: string };
      if (statusCode === '404') return null;
      throw unavailable('look at an object', answer.error);
    },
  };
}

function unavailable(what: string, cause: Error): CodedError {
  return new CodedError('storage_unavailable', `Could not ${what}: ${cause.message}`, { cause });
}
