import { connect } from 'node:net';
import type { CheckState } from '../engine.ts';
import { parseConfigDuration } from '../rules/durations.ts';
import type { MachineCheck } from '../wire.ts';

/** Until a check passes for the first time, however long its own interval: whoever rolls out a machine waits for that. */
const FIRST_INTERVAL_MS = 500;
const DEFAULT_INTERVAL_MS = 15_000;
const DEFAULT_TIMEOUT_MS = 5_000;

/** Asks a machine from outside how it is, again and again until `end`. */
export class Checks {
  readonly #states = new Map<string, CheckState>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #ended = new AbortController();

  /** `address`: `undefined` for a machine that this host doesn't reach. */
  constructor(address: string | undefined, checks: Record<string, MachineCheck>) {
    for (const [name, check] of Object.entries(checks)) {
      if (address) void this.#look(name, check, address, false);
      else this.#states.set(name, { name, status: 'critical', output: UNREACHABLE });
    }
  }

  /** Of each check that has run. */
  states(): CheckState[] {
    return [...this.#states.values()];
  }

  end(): void {
    this.#ended.abort();
    for (const timer of this.#timers.values()) clearTimeout(timer);
  }

  async #look(name: string, check: MachineCheck, address: string, hasPassed: boolean): Promise<void> {
    const timeout = AbortSignal.timeout(parseConfigDuration(check.timeout) || DEFAULT_TIMEOUT_MS);
    const result = await ask(address, check, AbortSignal.any([timeout, this.#ended.signal]));
    if (this.#ended.signal.aborted) return;
    this.#states.set(name, { name, ...result });
    const passed = hasPassed || result.status === 'passing';
    const interval = parseConfigDuration(check.interval) || DEFAULT_INTERVAL_MS;
    const next = passed ? interval : Math.min(interval, FIRST_INTERVAL_MS);
    this.#timers.set(name, setTimeout(() => void this.#look(name, check, address, passed), next).unref());
  }
}

const UNREACHABLE =
  'this host does not reach the machine: a network policy denies it the way out, and with it the way in';

async function ask(
  address: string,
  { type, port, path }: MachineCheck,
  signal: AbortSignal,
): Promise<Omit<CheckState, 'name'>> {
  try {
    if (type === 'tcp') {
      await connects(address, port, signal);
      return { status: 'passing', output: 'Success' };
    }
    const response = await fetch(`http://${address}:${port}${path}`, { signal, redirect: 'manual' });
    await response.body?.cancel();
    return {
      status: response.ok ? 'passing' : 'critical',
      output: `${response.status} ${response.statusText}`,
    };
  } catch (error) {
    const { cause, message } = error as Error;
    return { status: 'critical', output: cause instanceof Error ? cause.message : message };
  }
}

function connects(host: string, port: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port });
    const stop = () => socket.destroy(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    socket.once('close', () => signal.removeEventListener('abort', stop));
    socket.once('error', reject).once('connect', () => {
      socket.destroy();
      resolve();
    });
  });
}
