import type { PreviewApp } from './apps.ts';

/** What one look saw. The apps must be asked for *before* the stacks: an `up` makes its stack first, so an app without one is nobody's. */
export interface Look {
  apps: readonly PreviewApp[];
  stacks: readonly string[];
}

/** Apps of previews that no stack of the backend owns, in each of the looks, by their preview. */
export function orphansIn(looks: readonly Look[]): Map<string, string[]> {
  const [first, ...others] = looks.map(({ apps, stacks }) =>
    apps.filter(({ stack }) => !stacks.includes(stack)),
  );
  const orphans = new Map<string, string[]>();
  for (const { app, stack } of first ?? []) {
    if (!others.every((look) => look.some((one) => one.app === app))) continue;
    orphans.set(stack, [...(orphans.get(stack) ?? []), app]);
  }
  return orphans;
}

/**
 * Why the apps of a lost preview are kept for now, or undefined. Their age is that of the youngest thing in any of them. Fly shows no
 * date for an app without machines: where none shows one (they cost nothing, but may be in the making), a person has to look.
 */
export function keepsOrphans(
  youngest: readonly (number | undefined)[],
  leastAgeMs: number,
  now: Date,
): 'too young' | 'no date' | undefined {
  if (leastAgeMs === 0) return undefined;
  const known = youngest.filter((date) => date !== undefined);
  if (known.length === 0) return 'no date';
  return now.getTime() - Math.max(...known) < leastAgeMs ? 'too young' : undefined;
}
