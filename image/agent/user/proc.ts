import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A process as /proc tells of it (man proc_pid_stat). */
export interface Relation {
  pid: number;
  /** `R` runs, `S` and `D` wait, `T` was stopped, … */
  state: string;
  parent: number;
  group: number;
  session: number;
  /** In clock ticks since boot: with the pid it names a process for good. */
  born: string;
}

/** All living processes; those that only wait to be reaped are none. */
export function relations(): Relation[] {
  const found: Relation[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const relation = relationOf(pid);
    if (relation !== undefined) found.push(relation);
  }
  return found;
}

/** Undefined where it has ended meanwhile. */
export function relationOf(pid: number): Relation | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // After the name, which may itself hold spaces and brackets: state, ppid, pgrp, session, … starttime.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state, parent, group, session] = fields as [string, string, string, string];
    if (state === 'Z' || state === 'X') return undefined;
    return {
      pid,
      state,
      parent: Number(parent),
      group: Number(group),
      session: Number(session),
      born: fields[19]!,
    };
  } catch {
    return undefined;
  }
}

/** Whether one of the process's user ids (real, effective, saved, of file access) is this one. */
export function hasUid(pid: number, uid: number): boolean {
  try {
    const ids = /^Uid:\s+(.+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1] ?? '';
    return ids.split(/\s+/).includes(String(uid));
  } catch {
    return false;
  }
}

/** Names the pid namespace that a process lives in; undefined where it has ended. */
export function pidNamespace(pid: number | 'self'): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}

/** As it was when the process began, its variables separated by NUL; empty where it is not the agent's to look at. */
export function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    return '';
  }
}
