import { flyError } from './errors.ts';
import { guestProblem } from './guest.ts';
import type {
  AllocateIpRequest,
  CreateMachineRequest,
  ExecRequest,
  Guest,
  MachineConfig,
  NetworkPolicyRequest,
  UpdateMachineRequest,
} from './types.ts';

/**
 * What the Machines API ignores in silence or refuses only late, refused here before it is sent: unknown
 * fields, sizes, names. A mistake names the field and its value.
 */

export function mistake(call: string, field: string, value: unknown, rule: string): never {
  throw flyError('mistake', { call, field, detail: `${field} ${rule}; it is ${show(value)}` });
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** Fly's own words: "Name under 63 chars using numbers, lowercase letters and dashes". */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?$/;
/** Ids are opaque; this only keeps them one segment of a path. */
const ID = /^[A-Za-z0-9_-]{1,64}$/;
const SECRET_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const REGIONS = /^[a-z]{2,4}(?:,[a-z]{2,4})*$/;
/** As Go reads durations; without `0`, which Fly takes for "not given". */
const DURATION = /^(?:\d+(?:\.\d+)?(?:h|m|s|ms))+$/;
const SIGNALS = new Set(
  'SIGABRT SIGALRM SIGFPE SIGHUP SIGILL SIGINT SIGKILL SIGPIPE SIGQUIT SIGSEGV SIGTERM SIGTRAP SIGUSR1 SIGUSR2'.split(
    ' ',
  ),
);
const STOP_SIGNALS = new Set('SIGHUP SIGINT SIGQUIT SIGKILL SIGUSR1 SIGUSR2 SIGTERM'.split(' '));

/** `test` alone would take undefined for the text 'undefined', which is a good name. */
const fits = (pattern: RegExp, value: unknown): boolean => typeof value === 'string' && pattern.test(value);

export function checkApp(call: string, app: string, field = 'app'): void {
  if (!fits(NAME, app)) {
    mistake(
      call,
      field,
      app,
      'must be 1 to 62 characters of a-z, 0-9 and dashes, with no dash at either end',
    );
  }
}

export function checkId(call: string, id: string, field = 'machine'): void {
  if (!fits(ID, id)) mistake(call, field, id, 'must be 1 to 64 letters, digits, dashes and underscores');
}

/** Anything that stays one segment of a path once it is encoded. */
export function checkSegment(call: string, value: string, field: string): void {
  if (typeof value !== 'string' || value === '' || value === '.' || value === '..' || value.length > 255) {
    mistake(call, field, value, 'must be 1 to 255 characters, and not . or ..');
  }
}

export function checkInteger(call: string, field: string, value: number, min: number, max: number): void {
  if (!Number.isInteger(value) || value < min || value > max) {
    mistake(call, field, value, `must be a whole number from ${min} to ${max}`);
  }
}

export function checkSignal(call: string, signal: string, kind: 'signal' | 'stop signal'): void {
  const known = kind === 'signal' ? SIGNALS : STOP_SIGNALS;
  if (!known.has(signal)) mistake(call, 'signal', signal, `must be one of ${[...known].join(', ')}`);
}

export function checkDuration(call: string, field: string, value: string): void {
  if (!fits(DURATION, value)) mistake(call, field, value, 'must be a duration such as 10s, 1m30s or 24h');
}

/** Until SIGKILL: Fly's maximum is 300 s. */
export function checkGrace(call: string, field: string, value: string): void {
  checkDuration(call, field, value);
  if (durationSeconds(value) > 300) mistake(call, field, value, 'must be 300 s at most');
}

/** Of a duration as Go writes them, such as `1m30s`; it must have been checked. */
export function durationSeconds(duration: string): number {
  const parts = [...duration.matchAll(/([\d.]+)(ms|h|m|s)/g)];
  return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNIT_S[unit ?? ''] ?? 0), 0);
}

const UNIT_S: Record<string, number> = { h: 3600, m: 60, s: 1, ms: 0.001 };

export function checkSecretName(call: string, name: string): void {
  if (!fits(SECRET_NAME, name)) {
    mistake(call, 'name', name, 'must be letters, digits and underscores, and begin with no digit');
  }
}

export function checkCreate(call: string, request: CreateMachineRequest): void {
  checkKeys(call, '', request, CREATE_KEYS);
  checkApp(call, request.name, 'name');
  if (request.region !== undefined && !fits(REGIONS, request.region)) {
    mistake(call, 'region', request.region, 'must be one region code or several with commas between');
  }
  checkConfig(call, request.config);
}

export function checkUpdate(call: string, request: UpdateMachineRequest): void {
  checkKeys(call, '', request, UPDATE_KEYS);
  checkConfig(call, request.config);
}

function checkConfig(call: string, config: MachineConfig): void {
  checkKeys(call, 'config', config, CONFIG_KEYS);
  if (typeof config.image !== 'string' || config.image === '') {
    mistake(call, 'config.image', config.image, 'must name an image');
  }
  checkTexts(call, 'config.env', config.env);
  checkTexts(call, 'config.metadata', config.metadata);
  if (config.guest !== undefined) checkGuest(call, config.guest);
  checkKeys(call, 'config.init', config.init, INIT_KEYS);
  checkKeys(call, 'config.restart', config.restart, RESTART_KEYS);
  checkKeys(call, 'config.stop_config', config.stop_config, STOP_KEYS);
  const policy = config.restart?.policy;
  if (policy !== undefined && !['no', 'always', 'on-failure', 'spot-price'].includes(policy)) {
    mistake(call, 'config.restart.policy', policy, 'must be no, always or on-failure');
  }
  const { signal, timeout } = config.stop_config ?? {};
  if (signal !== undefined) checkSignal(call, signal, 'stop signal');
  if (timeout !== undefined) checkGrace(call, 'config.stop_config.timeout', timeout);
  config.services?.forEach((service, index) => {
    checkKeys(call, `config.services[${index}]`, service, SERVICE_KEYS);
  });
}

export function checkGuest(call: string, guest: Guest): void {
  checkKeys(call, 'config.guest', guest, GUEST_KEYS);
  const problem = guestProblem(guest);
  if (problem === undefined) return;
  const { field, expected } = problem;
  mistake(call, `config.guest.${field}`, guest[field], `must be ${expected}`);
}

/** Fly's exec answers 400 above 60 s. */
export function checkExec(call: string, request: ExecRequest): void {
  const { command, timeout } = request;
  if (!Array.isArray(command) || command.length === 0 || command[0] === '') {
    mistake(call, 'command', command, 'must be the program and its arguments');
  }
  if (command.some((part) => typeof part !== 'string' || part.includes('\0'))) {
    mistake(call, 'command', command, 'must be strings without NUL characters');
  }
  if (timeout !== undefined) checkInteger(call, 'timeout', timeout, 1, 60);
}

/** Fly docs, "network-policies": allow only, single ports, tcp or udp. */
export function checkPolicy(call: string, policy: NetworkPolicyRequest): void {
  checkKeys(call, '', policy, POLICY_KEYS);
  if (policy.name === '') mistake(call, 'name', policy.name, 'must not be empty');
  policy.rules.forEach((rule, index) => {
    const at = `rules[${index}]`;
    if (rule.action !== 'allow') mistake(call, `${at}.action`, rule.action, 'must be allow');
    if (rule.direction !== 'ingress' && rule.direction !== 'egress') {
      mistake(call, `${at}.direction`, rule.direction, 'must be ingress or egress');
    }
    rule.ports.forEach(({ protocol, port }, portIndex) => {
      checkInteger(call, `${at}.ports[${portIndex}].port`, port, 1, 65_535);
      if (protocol !== 'tcp' && protocol !== 'udp') {
        mistake(call, `${at}.ports[${portIndex}].protocol`, protocol, 'must be tcp or udp');
      }
    });
  });
}

const IP_TYPES: readonly AllocateIpRequest['type'][] = ['v4', 'shared_v4', 'v6', 'private_v6'];

export function checkAllocateIp(call: string, request: AllocateIpRequest): void {
  if (!IP_TYPES.includes(request.type)) {
    mistake(call, 'type', request.type, `must be one of ${IP_TYPES.join(', ')}`);
  }
}

/** Env and metadata go into Go maps of strings: anything else is refused with a text that names no key. */
function checkTexts(call: string, field: string, map: Record<string, string> | undefined): void {
  for (const [key, value] of Object.entries(map ?? {})) {
    // The value stays out of the message: environments hold secrets.
    if (typeof value !== 'string') {
      mistake(call, `${field}.${key}`, typeof value, 'must be a string, the type');
    }
  }
}

function checkKeys(call: string, field: string, value: object | undefined, known: ReadonlySet<string>): void {
  for (const key of Object.keys(value ?? {})) {
    if (known.has(key)) continue;
    const path = field === '' ? key : `${field}.${key}`;
    throw flyError('mistake', {
      call,
      field: path,
      detail: `${path} is no field that Fly knows, and it would be ignored without a word`,
    });
  }
}

// Every field that Fly knows (OpenAPI document of 2026-05-07 and fly-go's machine_types.go), including the
// ones that we have no type for.
const words = (text: string): ReadonlySet<string> => new Set(text.split(' '));
const CREATE_KEYS = words(
  'name region config skip_launch skip_service_registration skip_secrets min_secrets_version lease_ttl lsvd',
);
const UPDATE_KEYS = words(
  'config current_version skip_launch skip_service_registration skip_secrets min_secrets_version lease_ttl lsvd',
);
const CONFIG_KEYS = words(
  'image env init guest size rootfs cache_drive spot metadata mounts volumes services checks metrics statics files processes ' +
    'containers restart auto_destroy schedule stop_config standbys dns disable_machine_autostart',
);
const INIT_KEYS = words('exec entrypoint cmd tty swap_size_mb kernel_args');
const GUEST_KEYS = words(
  'cpu_kind cpus memory_mb max_memory_mb gpus gpu_kind host_dedication_id kernel_args persist_rootfs',
);
const RESTART_KEYS = words('policy max_retries gpu_bid_price');
const STOP_KEYS = words('signal timeout');
const SERVICE_KEYS = words(
  'protocol internal_port autostart autostop min_machines_running ports concurrency checks force_instance_key force_instance_description',
);
const POLICY_KEYS = words('id name selector rules');
