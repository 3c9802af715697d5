/**
 * What the Machines API takes and gives, as far as we use it.
 *
 * Sources: Fly's OpenAPI document (docs.machines.dev/spec/openapi3.json, 2026-05-07), Fly docs "machines/api"
 * and the wire types of the official Go client (superfly/fly-go). Field names are Fly's. Of a reply only `id`
 * and `state` are certain: which other fields are there depends on the machine's state and on its host.
 */

// Apps

export interface CreateAppRequest {
  /** Global across all of Fly; below 63 characters of `a-z`, `0-9`, `-`. */
  name: string;
  org_slug: string;
  /**
   * Private network (6PN) to put the app on, made on first use. Can't be changed later. Default: the
   * organisation's own.
   */
  network?: string;
}

export interface App {
  id: string;
  name?: string;
  /** `pending` until it has had a machine, then `deployed`; or `suspended`. */
  status?: string;
  network?: string;
  machine_count?: number;
  volume_count?: number;
  organization?: { name?: string; slug?: string };
  /** Unix milliseconds. */
  created_at?: number;
}

/** What a token is good for (Fly's OpenAPI document, `GET /v1/tokens/current`). */
export interface TokenInfo {
  org_slug?: string;
  /** Those that it is limited to; absent or empty: all of the organisation's. */
  apps?: string[] | null;
  /** Machine that it is limited to. */
  restricted_to_machine?: string;
}

// Machines

/** Resting, passing and final states (Fly docs, "machines/machine-states"). New ones may appear. */
export type MachineState =
  | 'created'
  | 'started'
  | 'stopped'
  | 'suspended'
  | 'failed'
  | 'creating'
  | 'starting'
  | 'stopping'
  | 'restarting'
  | 'suspending'
  | 'destroying'
  | 'updating'
  | 'replacing'
  | 'launch_failed'
  | 'destroyed'
  | 'replaced'
  | 'migrated';

/** What `wait` accepts; `settled` is any resting state. */
export type WaitableState = 'started' | 'stopped' | 'suspended' | 'destroyed' | 'failed' | 'settled';

export interface Guest {
  /** Default `shared`. */
  cpu_kind?: 'shared' | 'performance';
  /** shared: 1, 2, 4, 6 or 8; performance: 1 to 16. Default 1. */
  cpus?: number;
  /**
   * shared: multiples of 256, at most 2048 for each CPU; performance: multiples of 2048, 2048 to 8192 for
   * each CPU. Default 256.
   */
  memory_mb?: number;
}

export interface MachineConfig {
  /** Tag or digest; a tag is resolved to a digest when the machine is created. */
  image: string;
  /** Readable by everyone who may read the machine: no place for secrets of value. */
  env?: Record<string, string>;
  guest?: Guest;
  /** `exec` replaces the image's entry point and command. */
  init?: { exec?: string[]; entrypoint?: string[]; cmd?: string[]; tty?: boolean; swap_size_mb?: number };
  /** Default `on-failure`, 10 retries within 5 minutes. */
  restart?: { policy?: 'no' | 'always' | 'on-failure'; max_retries?: number };
  /**
   * The machine is destroyed when it would come to rest in `stopped`; needs `restart.policy: 'no'` to mean
   * anything.
   */
  auto_destroy?: boolean;
  /** `timeout` as a Go duration such as `10s`, at most 300 s; platform default SIGINT and 5 s. */
  stop_config?: { signal?: string; timeout?: string };
  metadata?: Record<string, string>;
  services?: MachineService[];
  checks?: Record<string, unknown>;
  mounts?: { volume: string; path: string; name?: string }[];
  /** `mode` as a decimal number; exactly one source of content for each file. */
  files?: { guest_path: string; raw_value?: string; secret_name?: string; mode?: number }[];
  rootfs?: { persist?: 'never' | 'always' | 'restart'; size_gb?: number };
  dns?: { skip_registration?: boolean; nameservers?: string[]; searches?: string[] };
  metrics?: { port?: number; path?: string; https?: boolean };
}

export interface MachineService {
  protocol?: 'tcp' | 'udp';
  internal_port?: number;
  /** Replies keep booleans for `off` and `stop`. */
  autostop?: 'off' | 'stop' | 'suspend' | boolean;
  autostart?: boolean;
  min_machines_running?: number;
  ports?: {
    port?: number;
    start_port?: number;
    end_port?: number;
    handlers?: string[];
    force_https?: boolean;
  }[];
  concurrency?: { type?: 'connections' | 'requests'; soft_limit?: number; hard_limit?: number };
  checks?: unknown[];
}

export interface CreateMachineRequest {
  /**
   * Unique among the live machines of the app. Fly would invent one; we ask for it, as it is what makes a
   * create repeatable.
   */
  name: string;
  /** One code, or a list in order of preference such as `ams,fra,eu`. */
  region?: string;
  config: MachineConfig;
  /** Create without booting: stays `created` until the first start. */
  skip_launch?: boolean;
  skip_service_registration?: boolean;
  skip_secrets?: boolean;
  /** Wait for at least this version of the app's secrets (from `setSecrets`). */
  min_secrets_version?: number;
}

export interface UpdateMachineRequest {
  /** Replaces the whole configuration: nothing is merged. */
  config: MachineConfig;
  /** `instance_id` that the configuration was read at; a conflict if the machine has moved on. */
  current_version?: string;
  skip_launch?: boolean;
  min_secrets_version?: number;
}

export interface Machine {
  id: string;
  state: MachineState | (string & {});
  name?: string;
  region?: string;
  /** ULID of the machine's version; changes with every update. */
  instance_id?: string;
  private_ip?: string;
  image_ref?: { registry?: string; repository?: string; tag?: string; digest?: string };
  /** Absent when `host_status` is not `ok`. */
  config?: MachineConfig;
  incomplete_config?: Partial<MachineConfig> | null;
  /** `unknown` or `unreachable`: the host is in trouble and changes tend to hang. */
  host_status?: 'ok' | 'unknown' | 'unreachable' | (string & {});
  /** Newest first. */
  events?: MachineEvent[];
  checks?: { name?: string; status?: string; output?: string; updated_at?: string }[];
  cordoned?: boolean;
  /** RFC 3339. */
  created_at?: string;
  updated_at?: string;
}

export interface MachineEvent {
  id: string;
  /** `launch`, `start`, `exit`, `restart`, …: unknown types occur. */
  type?: string;
  status?: string;
  source?: string;
  /** Unix milliseconds. */
  timestamp?: number;
  /** Newer replies nest the exit under `MonitorEvent`; `exit_code` 0 may be absent. */
  request?: {
    restart_count?: number;
    exit_event?: ExitEvent;
    MonitorEvent?: { exit_event?: ExitEvent };
  } | null;
}

export interface ExitEvent {
  requested_stop?: boolean;
  restarting?: boolean;
  exit_code?: number;
  signal?: number;
  guest_exit_code?: number;
  guest_signal?: number;
  guest_error?: string;
  error?: string;
  oom_killed?: boolean;
  exited_at?: string;
}

export interface StartReply {
  previous_state?: string;
  migrated?: boolean;
  new_host?: string;
}

export interface WaitReply {
  ok?: boolean;
  /** The state that was reached. */
  state: string;
  version?: string;
  event_id?: string;
}

export interface ExecRequest {
  /** Run as it stands, as root, without a shell. */
  command: string[];
  stdin?: string;
  /** Seconds, at most 60. Default 30: Fly ends longer ones at random with a 408. */
  timeout?: number;
}

export interface ExecReply {
  exit_code: number;
  exit_signal: number;
  stdout: string;
  stderr: string;
}

export interface Lease {
  nonce: string;
  /** Unix seconds. */
  expires_at?: number;
  owner?: string;
  description?: string;
  /** The machine's `instance_id`. */
  version?: string;
}

// What belongs to an app

export interface AppSecret {
  name: string;
  digest?: string;
  created_at?: string;
  updated_at?: string;
}

export interface SecretsUpdate {
  /** Pass it as `min_secrets_version` at create, to be sure that the machine sees these values. */
  version: number;
  secrets: AppSecret[];
}

/**
 * Fly docs, "machines/guides-examples/network-policies". One rule for a direction drops all else in that
 * direction.
 */
export interface NetworkPolicyRequest {
  /** Given: the policy with this id is replaced. */
  id?: string;
  name: string;
  selector: { all?: true; machines?: { id: string }[]; metadata?: Record<string, string> };
  rules: NetworkRule[];
}

export interface NetworkRule {
  action: 'allow';
  direction: 'ingress' | 'egress';
  /** Single ports only; none means that nothing passes in this direction. */
  ports: { protocol: 'tcp' | 'udp'; port: number }[];
}

export interface NetworkPolicy extends Partial<NetworkPolicyRequest> {
  id: string;
}

export interface AllocateIpRequest {
  type: 'v4' | 'shared_v4' | 'v6' | 'private_v6';
  region?: string;
  org_slug?: string;
  /**
   * For `private_v6` (Flycast): the network the *callers* are on. Empty means the organisation's own, not the
   * app's.
   */
  network?: string;
  service_name?: string;
}

export interface IpAssignment {
  ip: string;
  region?: string;
  shared?: boolean;
  service_name?: string;
  created_at?: string;
}

export interface Region {
  code: string;
  name?: string;
  deprecated?: boolean;
  gateway_available?: boolean;
  requires_paid_plan?: boolean;
  capacity?: number;
  geo_region?: string;
  latitude?: number;
  longitude?: number;
}
