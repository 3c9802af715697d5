import type { SandboxRow } from '../store/rows.ts';

/** Metadata that each of our machines carries. */
export const METADATA = {
  stack: 'mobvibe_stack',
  session: 'mobvibe_session',
  sandbox: 'mobvibe_sandbox',
} as const;

/** Session ids: as long as `s-<session>-<incarnation>` still makes a host name. */
export const SESSION_ID = /^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$/;

export const EXEC_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** The parts of `s-<session>-<incarnation>`; undefined for any other name. */
export function parseSandboxName(name: string): { session: string; incarnation: number } | undefined {
  const parts = /^s-(.+)-([1-9]\d{0,9})$/.exec(name);
  if (parts === null || !SESSION_ID.test(parts[1]!)) return undefined;
  return { session: parts[1]!, incarnation: Number(parts[2]) };
}

export function machineMetadata(stack: string, sandbox: Pick<SandboxRow, 'name' | 'session_id'>) {
  return {
    [METADATA.stack]: stack,
    [METADATA.session]: sandbox.session_id,
    [METADATA.sandbox]: sandbox.name,
  };
}
