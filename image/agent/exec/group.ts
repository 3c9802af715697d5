import { readdirSync, readFileSync } from 'node:fs';

const LOOK_EVERY_MS = 50;

interface Relation {
  pid: number;
  parent: number;
  group: number;
  session: number;
  /** In clock ticks since boot: with the pid it names a process for good. */
  born: string;
}

/** To every process of the group; false when there is none. */
export function signalGroup(group: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-group, signal);
    return true;
  } catch {
    return false;
  }
}

/** Kills the group and all who descend from it, also those that made a session of their own. */
export function killGroup(group: number): void {
  kill(group, descendants(group, []));
}

/** SIGTERM to the group, and after `graceMs` SIGKILL to what is left of it and to those who left it. */
export async function endGroup(group: number, graceMs: number): Promise<void> {
  // Whoever loses its parent now can't be told from a stranger later.
  const known = descendants(group, []);
  signalGroup(group, 'SIGTERM');
  for (let waited = 0; waited < graceMs && isAlive(group); waited += LOOK_EVERY_MS) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  kill(group, descendants(group, known));
}

/** Whether anyone of the group is there and not only waiting to be reaped. */
function isAlive(group: number): boolean {
  return signalGroup(group, 0) && relations().some((each) => each.group === group);
}

function kill(group: number, family: Relation[]): void {
  signalGroup(group, 'SIGKILL');
  let round = family;
  // A process may fork between the look and the kill; a few rounds catch its children.
  for (let rounds = 0; rounds < 5 && round.length > 0; rounds += 1) {
    for (const { pid } of round) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It has ended by itself.
      }
    }
    const done = new Set(round.map(({ pid, born }) => `${pid} ${born}`));
    round = descendants(group, round).filter(({ pid, born }) => !done.has(`${pid} ${born}`));
  }
}

/** All living processes that descend from the group's leader or from one of `known`, or are in a session of theirs. */
function descendants(group: number, known: Relation[]): Relation[] {
  const all = relations();
  const alive = new Map(all.map((each) => [each.pid, each]));
  const family = new Map<number, Relation>();
  for (const each of known) {
    if (alive.get(each.pid)?.born === each.born) family.set(each.pid, each);
  }
  const sessions = new Set([group, ...known.map(({ session }) => session)]);
  for (let before = -1; before !== family.size; ) {
    before = family.size;
    for (const each of all) {
      if (family.has(each.pid) || each.pid === process.pid) continue;
      if (each.parent === group || family.has(each.parent) || sessions.has(each.session)) {
        family.set(each.pid, each);
        sessions.add(each.session);
      }
    }
  }
  return [...family.values()];
}

function relations(): Relation[] {
  const found: Relation[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      // After the name, which may itself hold spaces and brackets: state, ppid, pgrp, session, … starttime (man proc_pid_stat).
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (fields[0] === 'Z') continue;
      found.push({
        pid,
        parent: Number(fields[1]),
        group: Number(fields[2]),
        session: Number(fields[3]),
        born: fields[19]!,
      });
    } catch {
      // It has ended meanwhile.
    }
  }
  return found;
}
