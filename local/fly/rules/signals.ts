import { constants } from 'node:os';
import { invalidArgument } from './errors.ts';

/** Signals that a stop or a `stop_config` may name (Machines API spec, `fly.StopConfig`). */
export const stopSignals = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGKILL', 'SIGUSR1', 'SIGUSR2', 'SIGTERM'];
const extraSignals = ['SIGABRT', 'SIGALRM', 'SIGFPE', 'SIGILL', 'SIGPIPE', 'SIGSEGV', 'SIGTRAP'];

/** The signal's name for a name or, as fly-go sends it, a number. Throws 400. */
export function parseSignal(value: unknown, field: string, allowed: 'stop' | 'any'): string {
  const names = allowed === 'stop' ? stopSignals : [...stopSignals, ...extraSignals];
  const name =
    typeof value === 'number'
      ? names.find((known) => constants.signals[known as NodeJS.Signals] === value)
      : names.find((known) => known === value);
  if (name) return name;
  throw invalidArgument(`${field}: ${JSON.stringify(value)} is not one of ${names.join(', ')}`);
}

/** The signal that an exit code tells of in a shell's way, 128 + number; 0 for none. */
export function signalNumberOf(exitCode: number): number {
  const number = exitCode - 128;
  return signalName(number) ? number : 0;
}

export function signalName(number: number): string | null {
  return Object.entries(constants.signals).find(([, known]) => known === number)?.[0] ?? null;
}
