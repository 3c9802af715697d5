import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { log } from '../log.ts';
import { statusOf } from './processes.ts';
import type { Finder } from './whose.ts';

/** The kernel, short of memory, takes a process of the user's long before the agent, which has 0. */
const OOM_SCORE = 500;
const LEAST_RESERVE = 32;
const MOST_RESERVE = 256;
/** On the user's side, but not the user's: its first process, that one's child, and the way to a command. */
const NOT_OF_USER = 4;

/** What a process of the user's may use, so that the agent has what it needs whatever user code does. */
export interface UserLimits {
  /** Shell text that sets the limits for the shell itself, and whatever it becomes. */
  script: string;
  /** Whether there are so many that no more can be started. */
  reached(): boolean;
  told: string;
}

/** Pure: how many processes and threads the user may have where the machine may have `most`. */
export function userShare(most: number): number {
  return Math.max(1, most - Math.min(MOST_RESERVE, Math.max(LEAST_RESERVE, most >> 3)));
}

/** What this machine may have: the least of its limits that can be seen. */
export function machineLimit(): number {
  const most = /^Max processes\s+(\d+)/m.exec(textOf('/proc/self/limits'))?.[1];
  const inCgroup = /^\d+/.exec(textOf('/sys/fs/cgroup/pids.max'))?.[0];
  // Where nothing else is said the kernel gives half of its threads to one user.
  const threads = Number(textOf('/proc/sys/kernel/threads-max') || Number.POSITIVE_INFINITY) / 2;
  return Math.floor(Math.min(Number(most ?? threads), Number(inCgroup ?? threads), threads));
}

/**
 * Where user code has a uid of its own: the kernel counts each uid for itself, so the agent takes the user's limit upon itself, once, and
 * all that it starts has it from birth. Node has no way to do that; so `prlimit` does.
 */
export async function limitByInheritance(most: number): Promise<void> {
  const child = spawn('prlimit', [`--pid=${process.pid}`, `--nproc=${most}:${most}`], { stdio: 'ignore' });
  const [code] = await once(child, 'exit').catch((error: Error) => [error.message]);
  if (code !== 0) log('warn', 'processes of the user are not limited', { detail: `prlimit: ${code}` });
}

/** Where user code has namespaces of its own: the agent is counted with it, so only a shell on the other side can set the limit. */
export function limitsInShell(find: Finder, most: number): UserLimits {
  return {
    // bash says -u, dash says -p. Nobody's parent is a moment without them: they are set before the command is there.
    script: `echo ${OOM_SCORE} >/proc/self/oom_score_adj; { ulimit -u ${most} || ulimit -p ${most}; } 2>/dev/null;`,
    reached: () =>
      find().reduce((sum, { pid }) => sum + Number(statusOf(pid)('Threads')[0] ?? 0), NOT_OF_USER) >= most,
    told: `The user has ${most} processes and threads, no more are allowed`,
  };
}

/**
 * Raised from outside, right after the start. The other ways are worse: `choom` before the command costs a program more for each, and hides
 * why a command could not be started; an agent that raises its own around the fork has no gap, but is the largest of the raised in just the
 * moment in which memory is asked for. The gap here is the time that a program needs to be loaded before it can fork; a child that is there all
 * the same is raised as well. Costs less than 0.1 ms of about 2 for a start; `choom` costs 1.3.
 */
export function offerToOom(pid: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(OOM_SCORE));
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim();
    for (const child of children === '' ? [] : children.split(' ')) offerToOom(Number(child));
  } catch {
    // It has ended already.
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
