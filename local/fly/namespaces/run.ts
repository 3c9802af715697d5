import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { TOOL_ENV } from './tools.ts';

const STDERR_MAX = 4096;
const O_CLOEXEC = 0o2000000;

type Stdio = ('ignore' | 'pipe')[];

/**
 * Starts a host tool with nothing of this process's environment, none of its descriptors but `stdio`, and in a session of its
 * own: a process that shares our controlling terminal could read and type there.
 */
export function spawnTool([program, ...args]: string[], stdio: Stdio): ChildProcess {
  const covered = coverLeakedDescriptors(stdio.length);
  try {
    return spawn(program!, args, {
      env: TOOL_ENV,
      cwd: '/',
      detached: true,
      stdio: [...stdio, ...covered.stdio],
    });
  } finally {
    covered.close();
  }
}

export interface ToolResult {
  /** `null` when a signal or the deadline ended it. */
  code: number | null;
  stderr: string;
}

/** Runs one host tool to its end, without input or output; killed after `timeoutMs`. */
export function runTool(command: string[], timeoutMs = 10_000): Promise<ToolResult> {
  const child = spawnTool(command, ['ignore', 'ignore', 'pipe']);
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_MAX);
  });
  const timer = setTimeout(() => {
    child.kill('SIGKILL');
    child.stderr!.destroy(); // What it has started may hold the pipe open.
  }, timeoutMs);
  return new Promise<ToolResult>((resolve) => {
    child.on('error', (error) => resolve({ code: null, stderr: error.message }));
    child.on('close', (code) => resolve({ code, stderr: stderr.trim() }));
  }).finally(() => clearTimeout(timer));
}

/**
 * Descriptors that this process would pass on without knowing (opened by whoever started it, without close-on-exec) are
 * covered by `/dev/null` in the child: the tail of a `stdio` array.
 */
function coverLeakedDescriptors(from: number): { stdio: ('ignore' | number)[]; close(): void } {
  const leaked = readdirSync('/proc/self/fdinfo')
    .map(Number)
    .filter((fd) => fd >= from && !closesOnExec(fd));
  if (leaked.length === 0) return { stdio: [], close: () => undefined };
  const none = openSync('/dev/null', 'r');
  const stdio = Array.from({ length: Math.max(...leaked) - from + 1 }, (_, index) =>
    leaked.includes(from + index) ? none : 'ignore',
  );
  return { stdio, close: () => closeSync(none) };
}

function closesOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return (Number.parseInt(flags ?? '', 8) & O_CLOEXEC) !== 0;
  } catch {
    return true; // Closed meanwhile: it was the one that read the folder.
  }
}
