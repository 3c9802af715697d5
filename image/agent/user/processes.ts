import { readdirSync, readFileSync } from 'node:fs';

/** A process as /proc shows it. */
export interface Process {
  pid: number;
  /** `R`, `S`, `D`, `T` (stopped), `t` (held by a debugger); zombies are left out. */
  state: string;
  parent: number;
  group: number;
  session: number;
  /** In clock ticks since boot: with the pid it names a process for good. */
  born: string;
}

const OWN_GROUP = Number(statusOf('self')('NSpgid').at(0));

/** All that live, in no order. */
export function processes(): Process[] {
  return pids().flatMap((pid) => {
    const stat = readOf(pid, 'stat');
    // After the name, which may itself hold spaces and brackets: state, ppid, pgrp, session, … starttime (man proc_pid_stat).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    if (stat === '' || fields[0] === 'Z' || fields[0] === 'X') return [];
    return {
      pid,
      state: fields[0]!,
      parent: Number(fields[1]),
      group: Number(fields[2]),
      session: Number(fields[3]),
      born: fields[19]!,
    };
  });
}

/** The words behind a key of /proc/PID/status, such as `Uid`. */
export function statusOf(pid: number | 'self'): (key: string) => string[] {
  const text = readOf(pid, 'status');
  return (key) => new RegExp(`^${key}:\\s+(.*)$`, 'm').exec(text)?.[1]?.split(/\s+/) ?? [];
}

export function isMarked(pid: number, mark: string): boolean {
  return `\0${readOf(pid, 'environ')}`.includes(`\0${mark}\0`);
}

/** False when there is no such process. */
export function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Never to the agent's own group, nor to one that has no number here. */
export function sendToGroup(group: number, signal: NodeJS.Signals): void {
  if (group > 1 && group !== OWN_GROUP) send(-group, signal);
}

/** Where others make processes all the time, so many looks in a row that find nothing count as one that has seen all there is. */
const LOOKS = 3;

/**
 * Tells when looks can be trusted that find nothing. A process that is born during a look may take the place of one that ends, and neither is
 * seen; so a look counts alone when no process was made meanwhile, by anybody.
 */
export class Calm {
  #looks = 0;

  /** Runs a look, which answers whether it has found nothing; true when that is certain. */
  after(look: () => boolean): boolean {
    const newest = lastPid();
    if (!look()) this.#looks = 0;
    else this.#looks += lastPid() === newest ? LOOKS : 1;
    return this.#looks >= LOOKS;
  }
}

/** The process or thread of this pid namespace that was made last. */
function lastPid(): string {
  return readFileSync('/proc/loadavg', 'latin1').trim().split(' ').at(-1)!;
}

function pids(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0);
}

/** Empty where the process has ended, or is not ours to look at. */
function readOf(pid: number | 'self', file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}
