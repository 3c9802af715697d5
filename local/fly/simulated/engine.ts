import {
  type CheckState,
  type Engine,
  EngineError,
  type MachineExecResult,
  type MachineExit,
  type MachineSpec,
  type RunningMachine,
} from '../engine.ts';
import { sha256Hex } from '../rules/tokens.ts';

export interface SimulatedOptions {
  /** Images that can be run. Default: all. */
  hasImage?: (image: string) => boolean | Promise<boolean>;
  /** Called before a boot is done; throw an `EngineError` to let it fail. A place to start what plays the machine's process. */
  onStart?: (machine: SimulatedMachine) => void | Promise<void>;
  /** What the main process does on a signal other than SIGKILL. Default: it ends by it. */
  onSignal?: (machine: SimulatedMachine, signal: string) => 'end' | 'ignore';
  /** Answers exec. Default: exit code 0 and no output. */
  onExec?: (
    machine: SimulatedMachine,
    request: { command: string[]; stdin?: string; timeoutMs: number },
  ) => Partial<MachineExecResult> | Promise<Partial<MachineExecResult>>;
  /** What a check of a running machine says. Default: passing. */
  check?: (machine: SimulatedMachine, name: string) => CheckState['status'];
  /** Default true. */
  canSuspend?: boolean;
}

/** A machine whose processes are imagined. */
export interface SimulatedMachine {
  readonly spec: MachineSpec;
  readonly suspended: boolean;
  /** Signals that the main process got, oldest first. */
  readonly signals: readonly string[];
  /** Settles with the end of the main process. */
  readonly exited: Promise<MachineExit>;
  /** The main process ends now; default exit code 0. Once is enough, later calls do nothing. */
  exit(how?: Partial<MachineExit>): void;
}

export interface SimulatedEngine extends Engine {
  /** Those that run now, by machine id. */
  readonly running: ReadonlyMap<string, SimulatedMachine>;
  /** Ids of all machines ever booted, once per boot. */
  readonly boots: readonly string[];
  readonly discarded: readonly string[];
}

const signalNumbers: Record<string, number> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
};

/** An engine that runs nothing: for tests of whatever talks to local Fly. It answers at once; time is local Fly's business. */
export function createSimulatedEngine(options: SimulatedOptions = {}): SimulatedEngine {
  const running = new Map<string, SimulatedMachine>();
  const boots: string[] = [];
  const discarded: string[] = [];

  async function start(spec: MachineSpec): Promise<RunningMachine> {
    const signals: string[] = [];
    const { promise: exited, resolve } = Promise.withResolvers<MachineExit>();
    let suspended = false;
    const machine: SimulatedMachine = {
      spec,
      signals,
      exited,
      get suspended() {
        return suspended;
      },
      exit(how = {}) {
        if (running.get(spec.id) === machine) running.delete(spec.id);
        resolve({ exit_code: 0, signal: null, oom_killed: false, ...how });
      },
    };
    boots.push(spec.id);
    running.set(spec.id, machine);
    try {
      await options.onStart?.(machine);
    } catch (error) {
      running.delete(spec.id);
      throw error;
    }
    const isRunning = () => running.get(spec.id) === machine;
    return {
      exited,
      async signal(signal) {
        if (!isRunning()) return;
        signals.push(signal);
        const ends = signal === 'SIGKILL' || (options.onSignal?.(machine, signal) ?? 'end') === 'end';
        if (ends) machine.exit({ exit_code: 128 + (signalNumbers[signal] ?? 1), signal });
      },
      async exec(request) {
        if (!isRunning()) throw new EngineError('not_running', `machine ${spec.id} does not run`);
        const result = await options.onExec?.(machine, request);
        return { exit_code: 0, exit_signal: 0, stdout: '', stderr: '', ...result };
      },
      checks: () =>
        Object.keys(spec.checks).map((name) => ({
          name,
          status: options.check?.(machine, name) ?? 'passing',
          output: 'simulated',
        })),
      ...(options.canSuspend === false
        ? {}
        : {
            async suspend() {
              suspended = true;
            },
            async resume() {
              suspended = false;
            },
          }),
    };
  }

  return {
    name: 'simulated',
    serves: true,
    writesFiles: true,
    running,
    boots,
    discarded,
    start,
    report: () => ({
      summary: 'Machines are simulated: nothing runs in them.',
      lacks: ['processes, files and a network in machines'],
    }),
    async resolveImage(image) {
      if (options.hasImage && !(await options.hasImage(image))) return { error: 'the image is not known' };
      return { digest: `sha256:${sha256Hex(image)}` };
    },
    async discard(machineId) {
      discarded.push(machineId);
    },
    async close() {
      for (const machine of [...running.values()]) machine.exit({ exit_code: 137, signal: 'SIGKILL' });
    },
  };
}
