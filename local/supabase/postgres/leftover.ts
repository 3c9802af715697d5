import { execFile } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { PostgresError } from './errors.ts';

const run = promisify(execFile);

interface ProcessState {
  /** Only its entry is left, until its parent looks: in a container perhaps for ever. */
  zombie: boolean;
  parent: number;
  name: string;
  commandLine: string;
}

/** Goes into Postgres's command line, so that a postmaster says itself who started it. */
export function clusterName(launcher: number): string {
  return `mobvibe-launched-by-${launcher}`;
}

/**
 * Makes way for a new postmaster: one that an earlier launcher left behind when it was killed is stopped, a pid file that names
 * no running Postgres is removed. Throws `folder_in_use` when a live process still holds the folder.
 */
export async function clearLeftover(clusterDir: string): Promise<void> {
  const pidFile = join(clusterDir, 'postmaster.pid');
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0]);
  if (!Number.isInteger(pid) || pid <= 1) return;
  const postmaster = await processState(pid);
  if (postmaster === undefined) return;
  if (postmaster.zombie || !postmaster.name.endsWith('postgres')) {
    // Postgres itself would take a zombie, or a process that has got the pid since (after a reboot, say), for its elder.
    await rm(pidFile, { force: true });
    return;
  }
  // A process whose launcher has died gets another parent, so a pid that was used again can't mislead us.
  const launcher = /mobvibe-launched-by-(\d+)/.exec(postmaster.commandLine)?.[1];
  if (launcher === undefined || Number(launcher) === postmaster.parent) {
    throw new PostgresError(
      'folder_in_use',
      `${clusterDir} is in use: Postgres runs there as process ${pid}, started by process ${postmaster.parent}`,
    );
  }
  await stopOrphan(pid, clusterDir);
}

async function stopOrphan(pid: number, clusterDir: string): Promise<void> {
  // Fast shutdown, then immediate (PostgreSQL manual, "Shutting Down the Server").
  const steps = [
    ['SIGINT', 10_000],
    ['SIGQUIT', 5_000],
  ] as const;
  for (const [signal, patienceMs] of steps) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw error;
    }
    const deadline = Date.now() + patienceMs;
    while (Date.now() < deadline) {
      if ((await processState(pid))?.zombie !== false) return;
      await delay(20);
    }
  }
  throw new PostgresError('stop_failed', `process ${pid}, left running on ${clusterDir}, does not stop`);
}

/** `undefined` when there is no such process. */
async function processState(pid: number): Promise<ProcessState | undefined> {
  return process.platform === 'linux' ? stateFromProc(pid) : stateFromPs(pid);
}

async function stateFromProc(pid: number): Promise<ProcessState | undefined> {
  const [stat, commandLine] = await Promise.all(
    ['stat', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')),
  );
  // "pid (name) state parent …"; the name may hold spaces and brackets.
  const match = /^\d+ \((.*)\) (\S) (\d+) /s.exec(stat!);
  if (!match) return undefined;
  return {
    zombie: /[ZX]/.test(match[2]!),
    name: match[1]!,
    parent: Number(match[3]),
    commandLine: commandLine!,
  };
}

async function stateFromPs(pid: number): Promise<ProcessState | undefined> {
  const ask = (columns: string) =>
    run('ps', ['-ww', '-o', columns, '-p', String(pid)], { timeout: 10_000 }).then(
      ({ stdout }) => stdout.trim(),
      () => '',
    );
  const match = /^(\d+)\s+(\S+)\s+(.*)$/.exec(await ask('ppid=,stat=,comm='));
  if (!match) return undefined;
  const zombie = match[2]!.startsWith('Z');
  return { zombie, name: match[3]!, parent: Number(match[1]), commandLine: await ask('args=') };
}
