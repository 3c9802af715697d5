import { invalidKey, StorageError } from './errors.ts';

/** One object: where it is and what it is called. */
export interface ObjectName {
  bucket: string;
  key: string;
}

const KEY = /^[A-Za-z0-9_/!.*'() &$@=;:+,?-]+$/;
const MAX_KEY_LENGTH = 1024;

/** The key, when Supabase Storage would take it (its own pattern; dot segments are refused on the way to it). */
export function checkKey(key: string): string {
  const segments = key.split('/');
  const valid =
    KEY.test(key) && key.length <= MAX_KEY_LENGTH && !segments.includes('.') && !segments.includes('..');
  if (!valid) throw invalidKey(key);
  return key;
}

export function checkBucketName(name: string): string {
  if (KEY.test(name) && !name.includes('/') && name.length <= 100) return name;
  throw new StorageError(400, 'InvalidBucketName', 'Bucket name invalid', 'Invalid Input');
}

/** `<bucket>/<key>` of a URL's path, still percent-encoded. */
export function parseObjectPath(path: string): ObjectName {
  const slash = path.indexOf('/');
  if (slash < 0) throw invalidKey('');
  return {
    bucket: checkBucketName(decode(path.slice(0, slash))),
    key: checkKey(decode(path.slice(slash + 1))),
  };
}

export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalidKey(text);
  }
}

const UNITS: Record<string, number> = { b: 1, kb: 1e3, mb: 1e6, gb: 1e9 };

/** `null`, bytes, or a text such as `50MB`, as `createBucket` takes it. */
export function parseSizeLimit(value: unknown): number | null {
  if (value === undefined || value === null) return null;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)(gb|mb|kb|b)?$/i.exec(value) : null;
  if (match) return Math.floor(Number(match[1]) * UNITS[(match[2] ?? 'b').toLowerCase()]!);
  throw new StorageError(
    400,
    'InvalidRequest',
    `Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B: ${value}`,
  );
}
