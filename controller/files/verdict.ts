import type { ErrorCode } from '../errors.ts';

export const BUCKET = 'workspaces';

export type StorageCode = Extract<ErrorCode, 'storage_full' | 'storage_refused' | 'storage_unavailable'>;

/** An error answer of Supabase Storage, or none at all. */
export interface StorageAnswer {
  /** The one that says more: in the body of HTTP 400 stands the real one. */
  status?: number | undefined;
  /** E.g. `NoSuchBucket`. */
  code?: string | undefined;
  message: string;
}

/** Whether waiting helps: `storage_unavailable` passes by itself, the others need a person. Pure. */
export function storageCode(answer: StorageAnswer): StorageCode {
  const { status = 0 } = answer;
  if (status === 429 || (status >= 500 && status !== 507)) return 'storage_unavailable';
  if (isTooLarge(answer) || isOverQuota(answer)) return 'storage_full';
  if ([401, 403, 415].includes(status) || isBucketMissing(answer) || REFUSALS.test(wordsOf(answer))) {
    return 'storage_refused';
  }
  return 'storage_unavailable';
}

/** What to do about it, and which setting to change. */
export function storageAdvice(answer: StorageAnswer): string {
  const code = storageCode(answer);
  if (code === 'storage_unavailable') return 'it is tried again by itself';
  if (isTooLarge(answer)) {
    return `raise the file size limit of the bucket "${BUCKET}", or that of the project (Supabase: Storage, Settings)`;
  }
  if (code === 'storage_full') {
    return 'a quota of the project is used up: raise its plan or spend cap (Supabase: Organization, Billing), or free space';
  }
  if (isBucketMissing(answer)) {
    return `the bucket "${BUCKET}" is missing: apply supabase/migrations again, or make the bucket, private, by hand`;
  }
  if (answer.status === 415) return `take the limit to MIME types off the bucket "${BUCKET}"`;
  return `check SUPABASE_SERVICE_ROLE_KEY, the policies of the bucket "${BUCKET}", and that MOBVIBE_EGRESS_ALLOW of the egress proxy names the storage`;
}

const REFUSALS = /InvalidKey|InvalidBucketName|InvalidJWT|InvalidSignature|AccessDenied|Unauthorized/i;

export function isTooLarge(answer: StorageAnswer): boolean {
  return answer.status === 413 || /EntityTooLarge|maximum allowed size/i.test(wordsOf(answer));
}

export function isBucketMissing(answer: StorageAnswer): boolean {
  return /NoSuchBucket|bucket not found/i.test(wordsOf(answer));
}

function isOverQuota(answer: StorageAnswer): boolean {
  return answer.status === 402 || answer.status === 507 || /quota/i.test(wordsOf(answer));
}

function wordsOf({ code = '', message }: StorageAnswer): string {
  return `${code} ${message}`;
}
