import type { Machine } from './types.ts';

/**
 * Readers of reply bodies. They throw when a body lacks what everything later relies on, so that a proxy's
 * cheerful `{}` is told from Fly's answer at the call that got it. Go writes an empty list as `null`.
 */

export function nothing(): void {}

export function object<T extends object>(body: unknown): T {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) throw new Error('not an object');
  return body as T;
}

export function list<T>(body: unknown): T[] {
  if (body === null) return [];
  if (!Array.isArray(body)) throw new Error('not a list');
  return body as T[];
}

/** The list under the first of these keys that is there. */
export function listUnder<T>(...keys: string[]): (body: unknown) => T[] {
  return (body) => {
    const holder = object<Record<string, unknown>>(body);
    const key = keys.find((candidate) => candidate in holder);
    if (key === undefined) throw new Error(`no ${keys.join(' or ')}`);
    return list<T>(holder[key]);
  };
}

export function withText<T extends object>(key: keyof T & string): (body: unknown) => T {
  return (body) => {
    const value = object<T>(body);
    if (typeof value[key] !== 'string' || value[key] === '') throw new Error(`no ${key}`);
    return value;
  };
}

export function machine(body: unknown): Machine {
  withText<Machine>('state')(body);
  return withText<Machine>('id')(body);
}

export function machines(body: unknown): Machine[] {
  return list(body).map(machine);
}
