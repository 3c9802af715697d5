import { guestProblem } from '../fly/index.ts';
import {
  ConfigError,
  distinct,
  integer,
  type Knob,
  listOf,
  matching,
  oneOf,
  path,
  readKnobs,
  url,
} from './knobs.ts';

/** A Fly region code or one of its aliases (`eu`, `any`, …). */
const REGION = /^[a-z]{2,5}$/;
/** Fly's rule for app names. */
const APP_NAME = /^[a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?$/;

/** Every knob: variable, form and unit, default, and why it is there. */
export const KNOBS = {
  flyApiToken: {
    variable: 'FLY_API_TOKEN',
    secret: true,
    parse: matching(/^\S.*\S$/, 'a token'),
    why: 'Machines API token; the deploy tokens of the cells, as one, are enough',
  },
  flyAppName: {
    variable: 'FLY_APP_NAME',
    parse: matching(APP_NAME, 'an app name'),
    why: "The app that holds the sandboxes; on Fly itself the controller's own app, see MOBVIBE_CELL_APPS",
  },
  cellApps: {
    variable: 'MOBVIBE_CELL_APPS',
    parse: distinct(APP_NAME, 'app names such as "cell-1,cell-2", each once'),
    optional: true,
    why: 'The apps that sandboxes are started in, where it is not FLY_APP_NAME, which Fly sets in each machine',
  },
  cellLeaseMs: {
    variable: 'MOBVIBE_CELL_LEASE_MS',
    parse: integer(500, 600_000),
    default: 15_000,
    why: 'So long after a controller died, its cells are taken over; renewed three times as often',
  },
  controllerUrl: {
    variable: 'MOBVIBE_CONTROLLER_URL',
    parse: url('http:'),
    optional: true,
    why: 'How other controllers reach this one, and it alone; on Fly by the name of its machine, else where it listens',
  },
  flyMachineId: {
    variable: 'FLY_MACHINE_ID',
    parse: matching(/^[0-9a-z]+$/, 'an id of a machine'),
    optional: true,
    why: 'Set by Fly in each machine; <id>.vm.<app>.internal stays its name when Fly moves it to another address',
  },
  flyRegion: {
    variable: 'FLY_REGION',
    parse: listOf(REGION, 'region codes such as "sjc" or "sjc,lax,any"'),
    default: 'sjc',
    why: 'Where sandboxes start unless the session says otherwise; more than one code is an order of preference',
  },
  flyFlapsBaseUrl: {
    variable: 'FLY_FLAPS_BASE_URL',
    parse: url('http:', 'https:'),
    default: 'https://api.machines.dev',
    why: 'The Machines API, as flyctl understands it; points at local Fly on a laptop',
  },
  supabaseUrl: { variable: 'SUPABASE_URL', parse: url('http:', 'https:'), why: 'The Supabase project' },
  supabaseServiceRoleKey: {
    variable: 'SUPABASE_SERVICE_ROLE_KEY',
    secret: true,
    parse: matching(/^\S+$/, 'a key'),
    why: 'May only read and call our functions (see supabase/migrations)',
  },
  databaseTimeoutMs: {
    variable: 'MOBVIBE_DATABASE_TIMEOUT_MS',
    parse: integer(100, 60_000),
    default: 10_000,
    why: 'Deadline of one call to Supabase, which itself ends a statement of the service role after 8 s',
  },
  agentSecret: {
    variable: 'MOBVIBE_AGENT_SECRET',
    secret: true,
    parse: matching(/^\S{32,}$/, 'at least 32 characters without spaces'),
    why: "HMAC key of the agents' tokens; a new one locks out every running sandbox",
  },
  sandboxImage: {
    variable: 'MOBVIBE_SANDBOX_IMAGE',
    parse: matching(/^\S+$/, 'an image reference'),
    why: 'What a sandbox boots; pin it by digest',
  },
  agentDialUrl: {
    variable: 'MOBVIBE_AGENT_DIAL_URL',
    parse: url('ws:', 'wss:', 'ws+unix:'),
    why: 'How an agent reaches this controller; handed to machines as it stands',
  },
  listenHost: {
    variable: 'MOBVIBE_LISTEN_HOST',
    parse: matching(/^\S+$/, 'a host name or address'),
    default: '127.0.0.1',
    why: 'Loopback unless told otherwise: the API gives a shell to whoever holds a key',
  },
  listenPort: {
    variable: 'MOBVIBE_LISTEN_PORT',
    parse: integer(0, 65_535),
    default: 8080,
    why: '0 takes any free port; the ready line says which',
  },
  agentListenSocket: {
    variable: 'MOBVIBE_AGENT_LISTEN_SOCKET',
    parse: path(107),
    optional: true,
    why: 'A Unix socket on which agents are accepted as well, for machines without any network; the kernel takes 107 bytes',
  },
  agentListenPort: {
    variable: 'MOBVIBE_AGENT_LISTEN_PORT',
    parse: integer(0, 65_535),
    optional: true,
    why: 'A port on which agents alone are accepted as well, for networks that must not reach the API',
  },
  egressProxyUrl: {
    variable: 'MOBVIBE_EGRESS_PROXY_URL',
    parse: url('unix:', 'http:'),
    optional: true,
    why: 'The way from a machine to storage; handed to machines as it stands',
  },
  egressProbeUrl: {
    variable: 'MOBVIBE_EGRESS_PROBE_URL',
    parse: url('unix:', 'http:'),
    optional: true,
    why: 'Where this controller itself reaches the egress proxy, to tell whether it answers; by default MOBVIBE_EGRESS_PROXY_URL when that is http:',
  },
  stack: {
    variable: 'MOBVIBE_STACK',
    parse: matching(/^[a-z0-9][a-z0-9-]{0,30}$/, 'up to 31 of a-z, 0-9 and -'),
    default: 'local',
    why: 'Marks our machines: those of another stack in the same app are never touched; stacks that share a database need different names',
  },
  cpuKind: {
    variable: 'MOBVIBE_CPU_KIND',
    parse: oneOf('shared', 'performance'),
    default: 'shared',
    why: 'Enough for an editor and a bundler, and the cheapest',
  },
  cpus: {
    variable: 'MOBVIBE_CPUS',
    parse: integer(1, 16),
    default: 1,
    why: 'Fly takes 1, 2, 4, 6, 8 (and up to 16 performance)',
  },
  memoryMb: {
    variable: 'MOBVIBE_MEMORY_MB',
    parse: integer(256, 131_072),
    default: 512,
    why: 'MiB; a multiple of 256. 512 holds the agent and the tests of a small app, Metro wants 2048',
  },
  execTimeoutMs: {
    variable: 'MOBVIBE_EXEC_TIMEOUT_MS',
    parse: integer(1, 86_400_000),
    default: 300_000,
    why: 'Deadline of an exec or job that names none',
  },
  sandboxMaxAgeMs: {
    variable: 'MOBVIBE_SANDBOX_MAX_AGE_MS',
    parse: integer(1_000, 604_800_000),
    default: 1_800_000,
    why: 'An older sandbox is saved and stopped: what was forgotten costs half an hour at most',
  },
  cleanupIntervalMs: {
    variable: 'MOBVIBE_CLEANUP_INTERVAL_MS',
    parse: integer(100, 3_600_000),
    default: 60_000,
    why: 'How often rows and machines are compared; one list call for each cell, far below the rate limit of 1/s',
  },
  saveIntervalMs: {
    variable: 'MOBVIBE_SAVE_INTERVAL_MS',
    parse: integer(1_000, 3_600_000),
    default: 60_000,
    why: 'What a machine that dies suddenly may lose at most; unchanged files cost one walk',
  },
  savePauseMs: {
    variable: 'MOBVIBE_SAVE_PAUSE_MS',
    parse: integer(0, 60_000),
    default: 5_000,
    why: 'A periodic save holds the processes of the user still for at most so long, so that what it saves existed at one moment; 0 never does',
  },
  stopGraceMs: {
    variable: 'MOBVIBE_STOP_GRACE_MS',
    parse: integer(0, 600_000),
    default: 10_000,
    why: 'Between SIGTERM and SIGKILL to what still runs when a session is stopped',
  },
  unsavedKeepMs: {
    variable: 'MOBVIBE_UNSAVED_KEEP_MS',
    parse: integer(60_000, 2_592_000_000),
    default: 86_400_000,
    why: 'A stopping sandbox whose files can not be saved is given up after this, with what is lost in an event',
  },
  onDamage: {
    variable: 'MOBVIBE_ON_DAMAGE',
    parse: oneOf('refuse', 'newest_whole'),
    default: 'refuse',
    why: 'What an open does whose version is damaged: say so, or take the newest version that is whole',
  },
  startsPerHour: {
    variable: 'MOBVIBE_STARTS_PER_HOUR',
    parse: integer(1, 10_000),
    default: 120,
    why: 'Sandboxes that one session may start within an hour: a loop of starts that fail ends here',
  },
  startTimeoutMs: {
    variable: 'MOBVIBE_START_TIMEOUT_MS',
    parse: integer(1_000, 1_800_000),
    default: 120_000,
    why: 'From the row to ready; a large image that no host has yet can take over a minute on Fly',
  },
  jobPollMs: {
    variable: 'MOBVIBE_JOB_POLL_MS',
    parse: integer(50, 60_000),
    default: 500,
    why: 'Jobs queued through this controller start at once, those of others within this time',
  },
  jobLeaseMs: {
    variable: 'MOBVIBE_JOB_LEASE_MS',
    parse: integer(1_000, 600_000),
    default: 30_000,
    why: 'So long after a controller died, its jobs are taken over',
  },
  jobsAtOnce: {
    variable: 'MOBVIBE_JOBS_AT_ONCE',
    parse: integer(1, 1_000),
    default: 8,
    why: 'Jobs followed by one controller; each is one stream and a few rows a second',
  },
  logLevel: {
    variable: 'MOBVIBE_LOG_LEVEL',
    parse: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    default: 'info',
    why: 'JSON lines on stderr',
  },
  shutdownTimeoutMs: {
    variable: 'MOBVIBE_SHUTDOWN_TIMEOUT_MS',
    parse: integer(0, 600_000),
    default: 30_000,
    why: 'How long steps under way may take after SIGTERM; what is cut off is picked up by the next start',
  },
  retentionMs: {
    variable: 'MOBVIBE_RETENTION_MS',
    parse: integer(3_600_000, 315_360_000_000),
    default: 2_592_000_000,
    why: 'Events, ended jobs and their output, execs and sandboxes that are gone are kept so long',
  },
  agentOrphanTimeoutMs: {
    variable: 'MOBVIBE_AGENT_ORPHAN_TIMEOUT_MS',
    parse: integer(1_000, 604_800_000),
    default: 86_400_000,
    why: 'A machine that reaches no controller for so long ends itself, with what it could not save: as long as an outage may last',
  },
} as const satisfies Record<string, Knob>;

type ValueOf<K> = K extends { parse: (text: string) => infer T }
  ? K extends { optional: true }
    ? T | undefined
    : T
  : never;

export type Config = { readonly [Name in keyof typeof KNOBS]: ValueOf<(typeof KNOBS)[Name]> } & {
  /** Never empty: `flyAppName` alone by default. */
  readonly cellApps: readonly string[];
};

/** Throws one `ConfigError` that names every variable at fault; values of secrets are never repeated. */
export function readConfig(env: Record<string, string | undefined>): Config {
  const values = readKnobs(KNOBS, env) as Omit<Config, 'cellApps'> & Partial<Pick<Config, 'cellApps'>>;
  const config = { ...values, cellApps: values.cellApps ?? [values.flyAppName] };
  const { cpuKind, cpus, memoryMb } = config;
  const problem = guestProblem({ cpu_kind: cpuKind, cpus, memory_mb: memoryMb });
  if (problem !== undefined) {
    const knob = ({ cpu_kind: 'cpuKind', cpus: 'cpus', memory_mb: 'memoryMb' } as const)[problem.field];
    throw new ConfigError([`${KNOBS[knob].variable} is "${config[knob]}"; expected ${problem.expected}`]);
  }
  return config;
}
