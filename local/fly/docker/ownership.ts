import { createHash } from 'node:crypto';

/**
 * What says whose a container or network is. The owner is the state folder: its next local Fly removes whatever an earlier one
 * left. The run is one life of local Fly: its tether removes what belongs to that life alone, however late it comes.
 */
export interface Ownership {
  owner: string;
  run: string;
  /** Begins the name of all that we make. */
  prefix: string;
}

export const OWNER = 'mobvibe.local-fly.owner';
export const RUN = 'mobvibe.local-fly.run';
export const MACHINE = 'mobvibe.local-fly.machine';
export const APP = 'mobvibe.local-fly.app';
export const NETWORK = 'mobvibe.local-fly.network';

/** `stateDir`: absolute and without links. */
export function ownershipOf(stateDir: string, run: string): Ownership {
  const owner = createHash('sha256').update(stateDir).digest('hex').slice(0, 12);
  return { owner, run, prefix: `mobvibe-${owner}` };
}

export function ownershipLabels({ owner, run }: Ownership): Record<string, string> {
  return { [OWNER]: owner, [RUN]: run };
}

export const labelFilter = (label: string, value: string) => ({ label: [`${label}=${value}`] });
