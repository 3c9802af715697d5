import type { AppRecord } from '../wire.ts';

/** What the tokens that a caller shows are good for: one of them is enough for a call. */
export interface Reach {
  /** Slugs of whole organisations; `all` of them as with a person's own token. */
  readonly orgs: 'all' | ReadonlySet<string>;
  /** Names of the apps that deploy tokens are limited to. */
  readonly apps: ReadonlySet<string>;
}

export function reachesOrg({ orgs }: Reach, slug: string): boolean {
  return orgs === 'all' || orgs.has(slug);
}

export function reachesApp(reach: Reach, { name, org_slug }: Pick<AppRecord, 'name' | 'org_slug'>): boolean {
  return reach.apps.has(name) || reachesOrg(reach, org_slug);
}

/** Whether anything but single apps is reached. */
export function reachesSomeOrg({ orgs }: Reach): boolean {
  return orgs === 'all' || orgs.size > 0;
}
