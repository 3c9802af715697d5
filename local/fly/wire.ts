/** The Machines API's objects as local Fly sends and keeps them. Names and units are Fly's (Fly docs, machines/api). */

export type MachineState =
  | 'created'
  | 'starting'
  | 'started'
  | 'stopping'
  | 'stopped'
  | 'restarting'
  | 'suspending'
  | 'suspended'
  | 'replacing'
  | 'failed'
  | 'destroying'
  | 'destroyed';

export interface Guest {
  cpu_kind: 'shared' | 'performance';
  cpus: number;
  memory_mb: number;
}

export type RestartPolicy = 'no' | 'always' | 'on-failure';

export interface MachineConfig {
  image: string;
  init: {
    exec?: string[];
    entrypoint?: string[];
    cmd?: string[];
    tty?: boolean;
    swap_size_mb?: number;
  };
  guest: Guest;
  env?: Record<string, string>;
  metadata?: Record<string, string>;
  restart?: { policy?: RestartPolicy; max_retries?: number };
  auto_destroy?: boolean;
  /** `timeout`: a Go duration such as `10s`, or a number of nanoseconds. */
  stop_config?: { signal?: string; timeout?: string | number };
  /** `raw_value`: base64. `secret_name`: a secret that holds base64. `mode`: permission bits as a decimal number. */
  files?: { guest_path: string; raw_value?: string; secret_name?: string; mode?: number }[];
  dns: Record<string, unknown>;
  services?: MachineService[];
  checks?: Record<string, MachineCheck>;
}

export interface MachineService {
  protocol: 'tcp';
  internal_port: number;
  ports: { port: number; handlers?: string[] }[];
}

export interface MachineCheck {
  type: 'tcp' | 'http';
  port: number;
  /** Of an HTTP check. */
  path?: string;
  /** Go durations, or numbers of nanoseconds. */
  interval?: string | number;
  timeout?: string | number;
}

export interface ImageRef {
  registry: string;
  repository: string;
  tag?: string;
  digest: string;
  labels: Record<string, string>;
}

export interface MachineEvent {
  id: string;
  type:
    | 'launch'
    | 'start'
    | 'stop'
    | 'exit'
    | 'restart'
    | 'update'
    | 'suspend'
    | 'destroy'
    | 'cordon'
    | 'uncordon';
  status: string;
  source: 'user' | 'flyd';
  /** Unix milliseconds. */
  timestamp: number;
  request?: EventRequest;
}

export interface EventRequest {
  restart_count?: number;
  exit_event?: ExitEvent;
  /** Why a boot failed, in the engine's words. */
  error?: string;
}

export interface ExitEvent {
  requested_stop: boolean;
  restarting: boolean;
  guest_exit_code: number;
  guest_signal: number;
  guest_error: string;
  /** As a shell says it: 128 + signal number for a signal. */
  exit_code: number;
  signal: number;
  error: string;
  oom_killed: boolean;
  /** RFC 3339. */
  exited_at: string;
}

export interface Lease {
  nonce: string;
  /** Unix seconds. */
  expires_at: number;
  owner: string;
  description: string;
  /** The machine's `instance_id` when the lease was taken. */
  version: string;
}

/** All that is kept of a machine; its API form is made of it by `machines/view.ts`. */
export interface MachineRecord {
  id: string;
  app: string;
  name: string;
  region: string;
  state: MachineState;
  /** `skip_launch`: it may rest in `created` and waits for the first start. */
  prepared: boolean;
  instance_id: string;
  image_ref: ImageRef;
  private_ip: string;
  created_at: string;
  updated_at: string;
  config: MachineConfig;
  /** Newest first. */
  events: MachineEvent[];
  /** Newest first. */
  versions: { version: string; user_config: MachineConfig }[];
  lease?: Lease;
  cordoned: boolean;
  skip_secrets: boolean;
  host_status: 'ok' | 'unreachable';
  /** Unix milliseconds of the boots by the restart policy that still count against `max_retries`. */
  restarts: number[];
  /** Unix milliseconds. */
  destroyed_at?: number;
}

export interface EgressIp {
  ip: string;
  version: 4 | 6;
  region: string;
  /** Unix milliseconds. */
  created_at: number;
}

export interface AppRecord {
  id: string;
  internal_numeric_id: number;
  name: string;
  org_slug: string;
  network: string;
  /** Unix milliseconds. */
  created_at: number;
  /** Deletion was accepted; its machines are being destroyed. */
  deleting: boolean;
  secrets: { version: number; values: Record<string, Secret> };
  network_policies: NetworkPolicy[];
  ips: IpAssignment[];
  /** Static addresses to go out by, as pairs for a region; absent where none was ever given. */
  egress_ips?: EgressIp[];
  /** Of the deploy tokens made for it: SHA-256 in hex, times in Unix milliseconds. */
  deploy_tokens: { sha256: string; expires_at: number; revoked_at?: number }[];
}

export interface Secret {
  value: string;
  digest: string;
  created_at: string;
  updated_at: string;
}

export interface NetworkPolicy {
  id: string;
  name: string;
  selector: Record<string, unknown>;
  rules: unknown[];
}

export interface IpAssignment {
  ip: string;
  region: string;
  service_name: string;
  shared: boolean;
  created_at: string;
  /** Of a `private_v6`: the network that its callers are on. Kept, never answered. */
  network?: string;
}
