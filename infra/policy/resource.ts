/** What the rules see of a resource. Secrets are in the clear here: a message may name nothing but what its rule is about. */
export interface Seen {
  type: string;
  /** `urn:pulumi:<stack>::<project>::<types>::<name>`. */
  urn: string;
  name: string;
  // biome-ignore lint/suspicious/noExplicitAny: of many shapes; a value that a preview can't know yet throws where it is read.
  props: Record<string, any>;
  opts: { protect: boolean };
}

/** A sentence for each way in which the resource breaks the rule. */
export type Rule<Limits = void> = (resource: Seen, limits: Limits) => string[];
export type StackRule = (resources: Seen[]) => string[];

export type FlyType = 'App' | 'IpAddress' | 'Machine' | 'NetworkPolicy';

/** Dynamic resources have no class that a policy could ask for. */
export function isFly(type: FlyType, resource: Seen): boolean {
  return resource.type === `pulumi-nodejs:dynamic/fly:${type}`;
}

/** Apps of sandboxes are known by their names: `<project>-<stack>-cell-<number>`. */
export function isCell(app: unknown): boolean {
  return typeof app === 'string' && /-cell-\d+$/.test(app);
}

export function stackOf({ urn }: Seen): string {
  return urn.split(':')[2] ?? '';
}
