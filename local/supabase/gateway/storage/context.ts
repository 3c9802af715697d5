import type { IncomingMessage } from 'node:http';
import type { Role } from '../access.ts';
import type { Database } from '../database.ts';
import { readBody } from '../http.ts';
import type { BlobStore } from './blobs.ts';
import { invalidRequest } from './errors.ts';

/** What the calls of the Storage half work with. */
export interface StorageContext {
  database: Database;
  blobs: BlobStore;
  /** Signs the tokens of signed URLs. */
  jwtSecret: string;
  /** Largest object of any bucket, in bytes. */
  maxObjectBytes: number;
  now(): Date;
}

export interface StorageRequest {
  message: IncomingMessage;
  role: Role;
  /** What follows the call's own prefix, still percent-encoded. */
  path: string;
  params: URLSearchParams;
}

/** Items of one remove or sign call; more are refused, as by Supabase Storage. */
export const MAX_ITEMS = 1000;

const MAX_JSON_BYTES = 4 * 1024 * 1024;

/** The JSON object in the body; an empty body is `{}`. */
export async function jsonBody(message: IncomingMessage): Promise<Record<string, unknown>> {
  const bytes = await readBody(message, MAX_JSON_BYTES);
  if (bytes === undefined) throw invalidRequest(`The body is larger than ${MAX_JSON_BYTES} bytes`);
  if (bytes.length === 0) return {};
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw invalidRequest('The body is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidRequest('body must be object');
  }
  return value as Record<string, unknown>;
}

/** A property that must be a text. */
export function textField(body: Record<string, unknown>, name: string): string {
  const value = body[name];
  if (typeof value === 'string' && value !== '') return value;
  throw invalidRequest(`body must have required property '${name}'`);
}

/** A property that must be a list of 1 to `MAX_ITEMS` texts. */
export function textListField(body: Record<string, unknown>, name: string): string[] {
  const value = body[name];
  if (!Array.isArray(value) || !value.every((item): item is string => typeof item === 'string')) {
    throw invalidRequest(`body/${name} must be array of string`);
  }
  if (value.length === 0) throw invalidRequest(`body/${name} must NOT have fewer than 1 items`);
  if (value.length > MAX_ITEMS)
    throw invalidRequest(`body/${name} must NOT have more than ${MAX_ITEMS} items`);
  return value;
}
