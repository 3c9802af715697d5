import { CodedError } from '../errors.ts';
import type { Database } from '../store/index.ts';
import { BUCKET, isBucketMissing, type StorageAnswer, storageAdvice, storageCode } from './verdict.ts';

/** A restore that takes longer than this has failed. */
const DOWNLOAD_URL_S = 3_600;
/** Supabase signs at most so many at once (storage-js, `createSignedUrls`). */
const MOST_SIGNED_AT_ONCE = 1000;

export interface WorkspaceStorage {
  /** A URL that takes one PUT. An object that is there already may be written again: its key says its content. */
  signUpload(key: string): Promise<string>;
  /** In the order of the keys; null where there is no such object. */
  signDownloads(keys: readonly string[]): Promise<(string | null)[]>;
  /** Bytes of the stored object; null when there is none. */
  size(key: string): Promise<number | null>;
  /** The most bytes of an object, as far as the storage tells: of the bucket and of the project. Null: it tells of none. */
  sizeLimit(): Promise<number | null>;
  /** Resolves when the bucket is there. */
  ping(): Promise<void>;
}

/** Where else the storage is asked, without a key: what storage-js has no call for. */
export interface StorageOrigin {
  url: string;
  fetch?: typeof fetch;
  timeoutMs: number;
}

/** Supabase Storage. Rejects with `storage_full`, `storage_refused` or `storage_unavailable`, and says which setting to change. */
export function workspaceStorage(database: Database, origin?: StorageOrigin): WorkspaceStorage {
  const bucket = () => database.storage.from(BUCKET);

  const getBucket = async () => {
    const answer = await database.storage.getBucket(BUCKET);
    if (answer.error !== null) throw failed(`look at the bucket "${BUCKET}"`, answer.error);
    return answer.data;
  };

  return {
    async signUpload(key) {
      const answer = await bucket().createSignedUploadUrl(key, { upsert: true });
      if (answer.error !== null) throw failed('sign an upload', answer.error);
      return answer.data.signedUrl;
    },

    async signDownloads(keys) {
      const urls: (string | null)[] = [];
      for (let at = 0; at < keys.length; at += MOST_SIGNED_AT_ONCE) {
        const answer = await bucket().createSignedUrls(
          keys.slice(at, at + MOST_SIGNED_AT_ONCE),
          DOWNLOAD_URL_S,
        );
        if (answer.error !== null) throw failed('sign downloads', answer.error);
        for (const { signedUrl } of answer.data) urls.push(signedUrl || null);
      }
      return urls;
    },

    async size(key) {
      const answer = await bucket().info(key);
      if (answer.error === null) return answer.data.size ?? null;
      const said = answerOf(answer.error);
      if (said.status === 404 && !isBucketMissing(said)) return null;
      throw failed('look at an object', answer.error);
    },

    async sizeLimit() {
      const [{ file_size_limit: ofBucket }, ofProject] = await Promise.all([
        getBucket(),
        projectLimit(origin),
      ]);
      const limits = [ofBucket ?? null, ofProject].filter((limit) => limit !== null && limit > 0);
      return limits.length === 0 ? null : Math.min(...(limits as number[]));
    },

    async ping() {
      await getBucket();
    },
  };
}

/**
 * The project's own limit is a setting that no call of the storage tells of; but resumable uploads answer OPTIONS, which needs no key, with it
 * (supabase/storage, `routes/tus`, `maxSize`). A gateway that answers OPTIONS itself leaves it out: then it is not known.
 */
async function projectLimit(origin: StorageOrigin | undefined): Promise<number | null> {
  if (origin === undefined) return null;
  try {
    const answer = await (origin.fetch ?? fetch)(`${origin.url}/storage/v1/upload/resumable`, {
      method: 'OPTIONS',
      signal: AbortSignal.timeout(origin.timeoutMs),
    });
    await answer.body?.cancel();
    const limit = answer.headers.get('tus-max-size');
    return limit !== null && /^\d{1,15}$/.test(limit) ? Number(limit) : null;
  } catch {
    return null;
  }
}

/** Storage answers its own errors with HTTP 400 and the real status in the body. */
function answerOf(error: Error): StorageAnswer {
  const { status, statusCode, code } = error as { status?: number; statusCode?: string; code?: string };
  const real = Number(statusCode);
  return {
    status: Number.isInteger(real) && real > 0 ? real : status,
    code: code ?? statusCode,
    message: error.message,
  };
}

function failed(what: string, cause: Error): CodedError {
  const answer = answerOf(cause);
  const detail = `Could not ${what}: ${cause.message}; ${storageAdvice(answer)}`;
  return new CodedError(storageCode(answer), detail, { cause });
}
