import { invalidArgument, wrongJsonType } from './errors.ts';

export type JsonObject = Record<string, unknown>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A request's body; none at all counts as `{}`. Throws 400 in Go's words for anything but an object. */
export function bodyObject(body: unknown, goType: string): JsonObject {
  if (body === undefined || body === null) return {};
  if (isObject(body)) return body;
  throw wrongJsonType(Array.isArray(body) ? 'array' : typeof body, goType);
}

/** Readers of one field each. Null and absent mean unset, as does an empty string. They throw 400 naming the field. */
export function optionalString(from: JsonObject, field: string): string | undefined {
  const value = from[field];
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value === 'string') return value;
  throw wrongField(field, value, 'a string');
}

export function optionalBoolean(from: JsonObject, field: string): boolean | undefined {
  const value = from[field];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'boolean') return value;
  throw wrongField(field, value, 'a boolean');
}

export function optionalInteger(from: JsonObject, field: string): number | undefined {
  const value = from[field];
  if (value === undefined || value === null) return undefined;
  if (Number.isSafeInteger(value)) return value as number;
  throw wrongField(field, value, 'an integer');
}

export function optionalObject(from: JsonObject, field: string): JsonObject | undefined {
  const value = from[field];
  if (value === undefined || value === null) return undefined;
  if (isObject(value)) return value;
  throw wrongField(field, value, 'an object');
}

export function optionalStrings(from: JsonObject, field: string): string[] | undefined {
  const value = from[field];
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw wrongField(field, value, 'an array of strings');
}

export function optionalStringMap(from: JsonObject, field: string): Record<string, string> | undefined {
  const value = optionalObject(from, field);
  if (!value) return undefined;
  for (const [key, item] of Object.entries(value)) {
    if (typeof item !== 'string') throw wrongField(`${field}.${key}`, item, 'a string');
  }
  return value as Record<string, string>;
}

function wrongField(field: string, value: unknown, wanted: string) {
  return invalidArgument(`${field}: ${JSON.stringify(value)} is not ${wanted}`);
}
