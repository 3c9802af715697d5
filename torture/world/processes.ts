import { readdirSync, readFileSync } from 'node:fs';
import { within } from '../pause.ts';

/** One process; its start (in ticks since boot) tells it from a later one with the same pid. */
export interface Process {
  pid: number;
  parent: number;
  started: string;
  command: string;
}

/** Every living process below `root`, itself not included. */
export function below(root: number): Process[] {
  const children = new Map<number, Process[]>();
  for (const name of readdirSync('/proc')) {
    const found = /^[0-9]+$/.test(name) ? look(Number(name)) : undefined;
    if (found === undefined) continue;
    const siblings = children.get(found.parent);
    if (siblings === undefined) children.set(found.parent, [found]);
    else siblings.push(found);
  }
  const found: Process[] = [];
  const queue = [root];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    for (const child of children.get(pid) ?? []) {
      found.push(child);
      queue.push(child.pid);
    }
  }
  return found;
}

/** Undefined when there is none, or only its entry is left. */
export function look(pid: number): Process | undefined {
  const stat = read(`/proc/${pid}/stat`);
  // The command's own name may hold spaces and brackets.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (stat === '' || fields[0] === 'Z') return undefined;
  const command = read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim();
  return { pid, parent: Number(fields[1]), started: fields[19]!, command };
}

/** The variable in the environment that the process was started with. */
export function variableOf({ pid }: Process, name: string): string | undefined {
  const entry = read(`/proc/${pid}/environ`)
    .split('\0')
    .find((line) => line.startsWith(`${name}=`));
  return entry?.slice(name.length + 1);
}

/** Signals it if it is still the same one. */
export function signal(process_: Process, name: NodeJS.Signals): boolean {
  if (look(process_.pid)?.started !== process_.started) return false;
  try {
    process.kill(process_.pid, name);
    return true;
  } catch {
    return false;
  }
}

/** What the kernel may take to let go of a namespace's last process. */
const LEFT_MS = 10_000;

/** Those processes that do not end, and mounts in the folder that stay. */
export async function leftOf(processes: readonly Process[], folder: string): Promise<string[]> {
  const left = () => [
    ...processes
      .filter(({ pid, started }) => look(pid)?.started === started)
      .map(({ pid, command }) => `process ${pid} ${command}`),
    ...read('/proc/self/mountinfo')
      .split('\n')
      .filter((line) => line.includes(folder))
      .map((line) => `mount ${line}`),
  ];
  await within(LEFT_MS, async () => left().length === 0);
  return left();
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
