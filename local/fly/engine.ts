import type { MachineCheck, MachineService } from './wire.ts';

/**
 * What runs behind local Fly's API. An engine knows processes, not Fly: states, events, restarts, rate limits and
 * `auto_destroy` are the API's business.
 */
export interface Engine {
  readonly name: 'namespaces' | 'simulated' | 'docker';
  /** Whether its machines can be reached, and asked how they are: without, `services` and `checks` of a config are refused. */
  readonly serves: boolean;
  /** It honours `MachineSpec.files`; a config with files is refused where it can't. */
  readonly writesFiles: boolean;
  /** What this host gives and what it lacks, in sentences for a person; printed when local Fly starts. */
  report(): EngineReport;
  /** Whether `config.image` can be run; the reason where it can't. Asked at create. */
  resolveImage(image: string): Promise<{ digest: string } | { error: string }>;
  /** Boots the machine with a fresh root file system. Rejects with `EngineError` when it can't be booted. */
  start(spec: MachineSpec): Promise<RunningMachine>;
  /** Drops all that is kept on disk for the machine. Nothing of it may run any more. Safe to repeat. */
  discard(machineId: string): Promise<void>;
  /** Kills every machine and waits until nothing of them is left. */
  close(): Promise<void>;
}

export interface EngineReport {
  summary: string;
  lacks: string[];
}

export interface MachineSpec {
  /** Fly's machine id: 14 hex digits. */
  id: string;
  app: string;
  name: string;
  image: string;
  /** What `resolveImage` said of it when the machine was made or updated: a tag may have moved since. */
  digest: string;
  /** `config.env`, the app's secrets and Fly's own variables, merged. */
  env: Record<string, string>;
  /** Replaces the image's own entry point and command where given (`init.exec`, or `init.entrypoint` with `init.cmd`). */
  exec?: string[];
  /** Replaces the image's own command where given, after its entry point (`init.cmd` alone). */
  cmd?: string[];
  services: MachineService[];
  checks: Record<string, MachineCheck>;
  /** Written into the root file system before the boot (`config.files`). */
  files: MachineFile[];
  network: MachineNetwork;
  guest: { cpu_kind: 'shared' | 'performance'; cpus: number; memory_mb: number };
}

export interface MachineFile {
  /** Absolute. */
  path: string;
  content: Buffer;
  /** Permission bits. Default 0644. */
  mode?: number;
}

/** What a machine may reach, and who may reach it; settled at its boot. For engines whose machines have a network. */
export interface MachineNetwork {
  /** Fly's private network that its app is on. Machines on different ones don't reach each other. */
  name: string;
  /** A policy lets machines of the same network not in. */
  deniesIngress: boolean;
  /** A policy lets nothing out but to its own network. */
  deniesEgress: boolean;
  /** Networks whose machines reach it as `<app>.flycast`. */
  flycast: string[];
}

export interface RunningMachine {
  /** IPv4 address at which this host reaches it. Absent where it has none. */
  readonly address?: string;
  /** Settles once when the machine's main process has ended and nothing of the machine runs any more. */
  readonly exited: Promise<MachineExit>;
  /** To the main process, e.g. `SIGTERM`. SIGKILL ends the machine at once. */
  signal(signal: string): Promise<void>;
  /** Runs a command as root of the machine. Rejects with `EngineError('exec_timeout')` at the deadline. */
  exec(request: { command: string[]; stdin?: string; timeoutMs: number }): Promise<MachineExecResult>;
  /** The latest word of each of its checks that has run. Absent where the engine doesn't serve. */
  checks?(): CheckState[];
  /** From now on machines of these networks, too, reach it as `<app>.flycast`: an address may be given after the boot. */
  serveFlycast?(networks: string[]): Promise<void>;
  /** Absent where the engine can't. Suspending keeps memory. */
  suspend?(): Promise<void>;
  resume?(): Promise<void>;
}

/** What a check says of a machine that runs. */
export interface CheckState {
  name: string;
  status: 'passing' | 'warning' | 'critical';
  output: string;
}

export interface MachineExit {
  /** As a shell would say it: 128 + signal number for a signal. */
  exit_code: number;
  signal: string | null;
  oom_killed: boolean;
}

export interface MachineExecResult {
  exit_code: number;
  exit_signal: number;
  stdout: string;
  stderr: string;
}

export class EngineError extends Error {
  override readonly name = 'EngineError';
  readonly code: 'unsupported_host' | 'image_not_found' | 'boot_failed' | 'exec_timeout' | 'not_running';
  constructor(code: EngineError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
