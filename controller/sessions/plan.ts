import type { SandboxRow } from '../store/rows.ts';
import type { MachineView } from './machines.ts';

/** All that a decision rests on. Machines were listed before the rows were read: so each machine's row is older than the list. */
export interface View {
  /** Every sandbox of the app that is not gone. */
  sandboxes: readonly SandboxRow[];
  /** Machines that are provably ours; null when Fly did not answer. */
  machines: readonly MachineView[] | null;
  /** Names of the sandboxes whose agent is connected. */
  connected: ReadonlySet<string>;
  /** Names of the sandboxes that a worker is busy with. */
  busy: ReadonlySet<string>;
}

/** What earlier looks have seen: since when (Unix ms) a ready sandbox's machine is missing, or a machine has no row. */
export interface Looks {
  missing: ReadonlyMap<string, number>;
  unknown: ReadonlyMap<string, number>;
}

export const NO_LOOKS: Looks = { missing: new Map(), unknown: new Map() };

export interface Limits {
  /** Age at which a sandbox is saved and stopped. */
  maxAgeMs: number;
  /** A machine without a row may only be destroyed when it is at least so old. */
  unknownGraceMs: number;
  /** Between two looks that count as two. */
  lookApartMs: number;
}

export type Action =
  /** Take the sandbox on from where its row stands. */
  | { type: 'drive'; sandbox: SandboxRow }
  /** Save and stop it. */
  | { type: 'stop'; sandbox: SandboxRow; reason: string }
  /** Ask Fly for this one machine: only its word that it is gone makes the sandbox lost. */
  | { type: 'confirm_lost'; sandbox: SandboxRow }
  /** A machine of ours that no live row wants. */
  | { type: 'destroy_unknown'; machine: MachineView };

/** The only states in which an unknown machine is destroyed: at rest. One in a passing state is looked at again later. */
const DESTROYABLE: ReadonlySet<string> = new Set(['created', 'started', 'stopped', 'suspended', 'failed']);

/** States of a ready sandbox's machine in which it serves nobody. */
const ENDED: ReadonlySet<string> = new Set(['stopped', 'failed', 'destroying', 'destroyed']);

/** What is to be done now. Pure: the same view, looks, time and limits give the same actions, at most one per sandbox. */
export function plan(view: View, looks: Looks, now: number, limits: Limits): Action[] {
  const actions: Action[] = [];
  for (const sandbox of view.sandboxes) {
    if (view.busy.has(sandbox.name)) continue;
    if (sandbox.state === 'gone') continue;
    if (sandbox.state !== 'ready') {
      actions.push({ type: 'drive', sandbox });
    } else if (now - Date.parse(sandbox.created_at) >= limits.maxAgeMs) {
      actions.push({ type: 'stop', sandbox, reason: 'max_age' });
    } else if (seenTwice(looks.missing.get(sandbox.name), now, limits) && isMissing(sandbox, view)) {
      actions.push({ type: 'confirm_lost', sandbox });
    }
  }
  for (const machine of unknownMachines(view)) {
    if (!DESTROYABLE.has(machine.state)) continue;
    // Without a birthday it may have been born this instant.
    if (machine.createdAt === undefined || now - machine.createdAt < limits.unknownGraceMs) continue;
    if (seenTwice(looks.unknown.get(machine.id), now, limits))
      actions.push({ type: 'destroy_unknown', machine });
  }
  return actions;
}

/** The looks after this one: a suspicion keeps the time of its first look and ends with the first look that does not share it. */
export function lookAgain(looks: Looks, view: View, now: number): Looks {
  // No answer is no look: what was suspected stays so.
  if (view.machines === null) return looks;
  const missing = view.sandboxes.filter((sandbox) => sandbox.state === 'ready' && isMissing(sandbox, view));
  return {
    missing: new Map(missing.map(({ name }) => [name, looks.missing.get(name) ?? now])),
    unknown: new Map(unknownMachines(view).map(({ id }) => [id, looks.unknown.get(id) ?? now])),
  };
}

function seenTwice(first: number | undefined, now: number, limits: Limits): boolean {
  return first !== undefined && now - first >= limits.lookApartMs;
}

/** Neither Fly's list nor the agent itself speaks for the machine. An agent that is connected outweighs any list. */
function isMissing(sandbox: SandboxRow, view: View): boolean {
  if (view.machines === null || view.connected.has(sandbox.name)) return false;
  const machine = view.machines.find(({ id }) => id === sandbox.machine_id);
  return machine === undefined || ENDED.has(machine.state);
}

/** A row without a machine id may be waiting for the answer of its create: it speaks for the machine with its name. */
function unknownMachines(view: View): MachineView[] {
  const byName = new Map(view.sandboxes.map((sandbox) => [sandbox.name, sandbox]));
  return (view.machines ?? []).filter((machine) => {
    const row = byName.get(machine.name ?? '');
    return (
      row === undefined || row.state === 'gone' || (row.machine_id !== null && row.machine_id !== machine.id)
    );
  });
}
