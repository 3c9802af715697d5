import type { Duplex } from 'node:stream';
import { finished, PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type Docker from 'dockerode';
import { EngineError, type MachineExecResult } from '../engine.ts';
import { collectOutput } from '../exec-output.ts';
import { signalNumberOf } from '../rules/signals.ts';
import { reasonOf, statusOf } from './client.ts';

/** For the processes of an exec to go once they were killed. */
const KILL_TIMEOUT_MS = 5_000;
const MARK = 'MOBVIBE_MACHINE_EXEC';

/**
 * Kills every process whose environment has the mark $1, until a look finds none; also those in sessions of their own. Docker can't end
 * an exec. Nothing but a shell is needed: images may have no more.
 */
const KILL_MARKED = `
  found=1
  while [ "$found" ]; do
    found=
    for file in /proc/[0-9]*/environ; do
      while IFS= read -r line || [ "$line" ]; do
        case $line in *"$1"*) pid=\${file#/proc/}; kill -9 "\${pid%/environ}" && found=1; break;; esac
      done < "$file"
    done
  done 2>/dev/null`;

export interface ExecRequest {
  command: string[];
  stdin?: string;
  timeoutMs: number;
  /** Unlike that of any other exec; letters and digits. */
  mark: string;
}

/** Runs a command as the container's root. At the deadline what it started is killed. */
export async function execInContainer(
  container: Docker.Container,
  request: ExecRequest,
): Promise<MachineExecResult> {
  const deadline = AbortSignal.timeout(request.timeoutMs);
  try {
    return await runToEnd(container, request, deadline);
  } catch (error) {
    if (!deadline.aborted) throw translate(error);
    await killMarked(container, request.mark);
    throw new EngineError(
      'exec_timeout',
      `The command had not ended after ${request.timeoutMs} ms and was killed`,
    );
  }
}

async function runToEnd(
  container: Docker.Container,
  { command, stdin, mark }: Omit<ExecRequest, 'timeoutMs'>,
  abortSignal: AbortSignal,
): Promise<MachineExecResult> {
  const exec = await container.exec({
    ...{ Cmd: command, User: '0', Env: [`${MARK}=${mark}`], abortSignal },
    ...{ AttachStdin: true, AttachStdout: true, AttachStderr: true },
  });
  const stream = await exec.start({ hijack: true, stdin: true, abortSignal });
  const { stdout, stderr } = await readOutput(container, stream, stdin ?? '', abortSignal);
  // The output ends a moment before Docker has noted the exit.
  let state = await exec.inspect({ abortSignal });
  for (; state.Running; state = await exec.inspect({ abortSignal })) await sleep(10);
  const exit_code = state.ExitCode ?? 1;
  return { exit_code, exit_signal: signalNumberOf(exit_code), stdout, stderr };
}

async function readOutput(
  container: Docker.Container,
  stream: Duplex,
  stdin: string,
  signal: AbortSignal,
): Promise<{ stdout: string; stderr: string }> {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const texts = [collectOutput(stdout), collectOutput(stderr)];
  container.modem.demuxStream(stream, stdout, stderr);
  stream.end(stdin);
  try {
    await new Promise<void>((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      finished(stream, { writable: false }, (error) => (error ? reject(error) : resolve()));
    });
  } finally {
    stream.destroy();
  }
  return { stdout: texts[0]!(), stderr: texts[1]!() };
}

async function killMarked(container: Docker.Container, mark: string): Promise<void> {
  const script = ['/bin/sh', '-c', KILL_MARKED, 'kill-marked', `${MARK}=${mark}`];
  // An image without a shell, or a machine that has ended: nothing is left to try, and the caller learns of the deadline.
  await runToEnd(container, { command: script, mark: 'killer' }, AbortSignal.timeout(KILL_TIMEOUT_MS)).catch(
    () => undefined,
  );
}

function translate(error: unknown): unknown {
  const status = statusOf(error);
  if (status !== 404 && status !== 409) return error;
  return new EngineError('not_running', `The machine does not run: ${reasonOf(error)}`, {
    cause: error,
  });
}
