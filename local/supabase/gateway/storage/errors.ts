import { DatabaseDown } from '../database.ts';
import { json, type Reply, ReplyError } from '../http.ts';

/**
 * An error answer of Supabase Storage. Its HTTP status is 400 for every error that is the caller's; the one that says more is
 * `statusCode` in the body, a string.
 */
export class StorageError extends ReplyError {
  override readonly name = 'StorageError';
  readonly statusCode: number;
  readonly code: string;
  readonly error: string;

  constructor(statusCode: number, code: string, message: string, error = code) {
    super(message);
    this.statusCode = statusCode;
    this.code = code;
    this.error = error;
  }

  toReply(): Reply {
    const { statusCode, code, error, message } = this;
    return json(statusCode >= 500 ? statusCode : 400, {
      statusCode: String(statusCode),
      error,
      code,
      message,
    });
  }
}

export const noSuchBucket = () =>
  new StorageError(404, 'NoSuchBucket', 'Bucket not found', 'Bucket not found');
export const noSuchKey = () => new StorageError(404, 'NoSuchKey', 'Object not found', 'not_found');
export const invalidKey = (key: string) => new StorageError(400, 'InvalidKey', `Invalid key: ${key}`);
export const invalidJwt = (message: string) => new StorageError(400, 'InvalidJWT', message);
export const invalidRequest = (message: string) => new StorageError(400, 'InvalidRequest', message, 'Error');
export const keyExists = () =>
  new StorageError(409, 'KeyAlreadyExists', 'The resource already exists', 'Duplicate');
export const tooLarge = () =>
  new StorageError(
    413,
    'EntityTooLarge',
    'The object exceeded the maximum allowed size',
    'Payload too large',
  );

/** The answer for an error of the database; `undefined` for any other error. */
export function storageErrorOf(error: unknown): StorageError | undefined {
  if (error instanceof DatabaseDown) {
    return error.reason === 'pool_timeout'
      ? new StorageError(544, 'DatabaseTimeout', 'The connection to the database timed out')
      : new StorageError(500, 'DatabaseError', 'The connection to the database failed');
  }
  const state = error instanceof Error && 'severity' in error && 'code' in error ? error.code : undefined;
  if (state === undefined) return undefined;
  if (state === '42501')
    return new StorageError(403, 'AccessDenied', (error as Error).message, 'Unauthorized');
  if (state === '57014')
    return new StorageError(544, 'DatabaseTimeout', 'The connection to the database timed out');
  return new StorageError(500, 'DatabaseError', (error as Error).message);
}
