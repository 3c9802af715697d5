import type { MachineExit } from '../engine.ts';
import type { ExitEvent, MachineConfig } from '../wire.ts';

/** What was asked of the machine while it ran; `run` when nothing was and it ended by itself. */
export type Intent = 'run' | 'stop' | 'restart' | 'replace' | 'destroy';

export type AfterExit = 'rest' | 'boot' | 'restart_by_policy' | 'destroy';

/** Only boots of the last five minutes count against `max_retries` (Fly docs, machine-restart-policy). */
export const restartWindowMs = 5 * 60_000;
const defaultMaxRetries = 10;

export function recentRestarts(restarts: readonly number[], now: number): number[] {
  return restarts.filter((at) => now - at < restartWindowMs);
}

/** What becomes of a machine whose main process has ended. */
export function afterExit(
  intent: Intent,
  config: Pick<MachineConfig, 'restart' | 'auto_destroy'>,
  exit: Pick<MachineExit, 'exit_code'>,
  restarts: readonly number[],
  now: number,
): AfterExit {
  if (intent === 'destroy') return 'destroy';
  if (intent === 'restart' || intent === 'replace') return 'boot';
  if (intent === 'run' && restartsByPolicy(config, exit, restarts, now)) return 'restart_by_policy';
  return config.auto_destroy ? 'destroy' : 'rest';
}

function restartsByPolicy(
  { restart }: Pick<MachineConfig, 'restart'>,
  exit: Pick<MachineExit, 'exit_code'>,
  restarts: readonly number[],
  now: number,
): boolean {
  const policy = restart?.policy ?? 'on-failure';
  if (policy === 'always') return true;
  if (policy === 'no' || exit.exit_code === 0) return false;
  return recentRestarts(restarts, now).length < (restart?.max_retries ?? defaultMaxRetries);
}

/** The shape of a real SIGTERM stop: the shell's code tells the signal, `signal` stays -1. */
export function exitEvent(exit: MachineExit, intent: Intent, next: AfterExit, now: number): ExitEvent {
  return {
    requested_stop: intent !== 'run',
    restarting: next === 'boot' || next === 'restart_by_policy',
    guest_exit_code: 0,
    guest_signal: -1,
    guest_error: '',
    exit_code: exit.exit_code,
    signal: -1,
    error: '',
    oom_killed: exit.oom_killed,
    exited_at: new Date(now).toISOString(),
  };
}
