import { constants } from 'node:os';
import type { Writable } from 'node:stream';
import { EngineError, type MachineExecResult } from '../engine.ts';
import { collectOutput } from '../exec-output.ts';
import type { Host } from './host.ts';
import { asMachineRoot, exportText, joinCgroups, ORDERS_FD } from './launch.ts';
import { runTool, spawnTool } from './run.ts';
import { ownKeyring, type Tools } from './tools.ts';

/** For the processes of an exec to go once they were killed. */
const KILL_TIMEOUT_MS = 5_000;

const GO = `unset LC_ALL; eval "$(cat <&${ORDERS_FD})"; exec "$@" ${ORDERS_FD}<&-`;

/** Kills every process whose environment has the mark $1, until a look finds none: also those in sessions of their own. */
const KILL_MARKED = `
  while pids=$(grep -lszxF "$1" /proc/[0-9]*/environ); [ -n "$pids" ]; do
    for file in $pids; do pid=\${file#/proc/}; kill -9 "\${pid%/environ}" 2>/dev/null; done
  done`;

export interface Entrance {
  host: Host;
  /** Host pid of the machine's pid 1. */
  init: number;
  joinFiles: string[];
  env: Record<string, string>;
}

export interface EnterRequest {
  command: string[];
  stdin?: string;
  timeoutMs: number;
  /** Unlike that of any other exec; letters and digits. */
  mark: string;
}

/** Runs a command as the machine's root in all of its namespaces. At the deadline everything that it started is killed. */
export async function runInside(entrance: Entrance, request: EnterRequest): Promise<MachineExecResult> {
  const mark = { MOBVIBE_MACHINE_EXEC: request.mark };
  const command = [
    ...enter(entrance),
    ...asMachineRoot(entrance.host),
    ...[entrance.host.tools.sh, '-c', GO, 'go', ...request.command],
  ];
  const child = spawnTool(command, ['pipe', 'pipe', 'pipe', 'pipe']);
  for (const stream of [child.stdin!, child.stdio[ORDERS_FD] as Writable])
    stream.on('error', () => undefined);
  child.stdin!.end(request.stdin ?? '');
  (child.stdio[ORDERS_FD] as Writable).end(exportText({ ...entrance.env, ...mark }));
  const stdout = collectOutput(child.stdout!);
  const stderr = collectOutput(child.stderr!);

  let timedOut: Promise<unknown> | undefined;
  const timer = setTimeout(() => {
    timedOut = killMarked(entrance, request.mark).finally(() => {
      child.kill('SIGKILL');
      // A process that has changed its environment may have got away and hold these open.
      child.stdout!.destroy();
      child.stderr!.destroy();
    });
  }, request.timeoutMs);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve([code, signal]));
  }).finally(() => clearTimeout(timer));

  if (timedOut) {
    await timedOut;
    throw new EngineError(
      'exec_timeout',
      `The command had not ended after ${request.timeoutMs} ms and was killed`,
    );
  }
  const exit_signal = signal ? constants.signals[signal] : 0;
  return {
    exit_code: signal ? 128 + exit_signal : (code ?? 1),
    exit_signal,
    stdout: stdout(),
    stderr: stderr(),
  };
}

/** Stops or continues every process of the machine but pid 1, which only waits; a machine just started has no other yet. */
export async function stopOrContinue(entrance: Entrance, signal: 'STOP' | 'CONT'): Promise<void> {
  const { tools } = entrance.host;
  const script = `until kill -${signal} -1; do sleep 0.01; done`;
  const result = await runTool([...enter(entrance), ...diesWithNsenter(tools), tools.sh, '-c', script]);
  if (result.code !== 0)
    throw new Error(`The machine's processes could not be sent SIG${signal}: ${result.stderr}`);
}

async function killMarked(entrance: Entrance, mark: string): Promise<void> {
  const { tools } = entrance.host;
  const script = [tools.sh, '-c', KILL_MARKED, 'kill-marked', `MOBVIBE_MACHINE_EXEC=${mark}`];
  const command = [...enter({ ...entrance, joinFiles: [] }), ...diesWithNsenter(tools), ...script];
  await runTool(command, KILL_TIMEOUT_MS);
}

/** Killing `nsenter` leaves its child, and a loop that was given up would go on signalling what starts later. */
function diesWithNsenter({ setpriv }: Tools): string[] {
  return [setpriv, '--pdeathsig', 'KILL'];
}

function enter({ host: { mode, tools }, init, joinFiles }: Entrance): string[] {
  const namespaces =
    mode === 'root' ? ['-a'] : ['-U', '-m', '-p', '-n', '-i', '-u', '-C', '--preserve-credentials'];
  return [
    ...ownKeyring(tools),
    ...joinCgroups(tools, joinFiles),
    ...[tools.nsenter, '-t', String(init), ...namespaces],
  ];
}
