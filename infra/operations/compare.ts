import { isDeepStrictEqual } from 'node:util';

export interface Difference {
  changes: boolean;
  replaces: string[];
  deleteBeforeReplace: boolean;
}

/** Properties by what a change of them means. */
export interface Rules<K extends string> {
  replace: readonly K[];
  update?: readonly K[];
  /** Where the old and the new one can't be there together. Default false. */
  deleteBeforeReplace?: boolean;
}

/**
 * What a change of inputs asks for. A value that is not known yet differs from every known one: when an app is
 * replaced, the engine asks with its name unknown, and takes down before it whatever then says "replace".
 */
export function compare<K extends string>(
  olds: { [P in K]?: unknown },
  news: { [P in K]?: unknown },
  { replace, update = [], deleteBeforeReplace = false }: Rules<K>,
): Difference {
  const differs = (key: K): boolean => !isDeepStrictEqual(olds[key], news[key]);
  const replaces = replace.filter(differs);
  return { changes: replaces.length > 0 || update.some(differs), replaces, deleteBeforeReplace };
}
