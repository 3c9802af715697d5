import type { MachineRecord } from '../wire.ts';

export interface ListFilter {
  includeDeleted: boolean;
  region?: string;
  states?: string[];
  metadata: [key: string, value: string][];
  summary: boolean;
}

type Query = Record<string, string | string[] | undefined>;

/** `GET …/machines`; `metadata.{key}=value` may be repeated and every one must match (Fly docs, machines-resource). */
export function parseListFilter(query: Query): ListFilter {
  const one = (name: string) => [query[name]].flat()[0] || undefined;
  return {
    includeDeleted: one('include_deleted') === 'true',
    region: one('region'),
    states: one('state')?.split(','),
    summary: one('summary') === 'true',
    metadata: Object.entries(query)
      .filter(([name]) => name.startsWith('metadata.'))
      .flatMap(([name, values]) =>
        [values].flat().map((value): [string, string] => [name.slice('metadata.'.length), value ?? '']),
      ),
  };
}

export function matches(filter: ListFilter, machine: MachineRecord): boolean {
  if (machine.state === 'destroyed' && !filter.includeDeleted) return false;
  if (filter.region && machine.region !== filter.region) return false;
  if (filter.states && !filter.states.includes(machine.state)) return false;
  return filter.metadata.every(([key, value]) => machine.config.metadata?.[key] === value);
}
