import { fileURLToPath } from 'node:url';
import { type Host, type Mode, NAMESPACES, USER_MAP } from './host.ts';
import { INSIDE } from './root-fs.ts';
import { loopbackUp, ownKeyring, type Tools } from './tools.ts';

const BOOT = fileURLToPath(new URL('boot.sh', import.meta.url));

/** Joins the cgroups named before `--`, then goes on with what follows. */
const JOIN = 'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done; shift; exec "$@"';

/** Descriptors of the talk between the engine and a booting machine. */
export const ORDERS_FD = 3;
export const STATUS_FD = 4;

/**
 * What the agent may do as the machine's root: become the user, signal and look at the user's processes, own and reach
 * all files. No mounts, no devices, no network settings.
 */
const AGENT_CAPABILITIES = [
  'setuid',
  'setgid',
  'setpcap',
  'kill',
  'chown',
  'dac_override',
  'fowner',
  'sys_ptrace',
];

/**
 * In a new user namespace without maps: asks for them, then forbids further user namespaces and goes on.
 * A root that isn't real loses nothing by that, and user code loses a way to the kernel's less tested parts.
 */
const MAPPED = `echo map >&${STATUS_FD}; read -r _ <&${ORDERS_FD} || exit 1; echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"`;
const FORBID_USER_NAMESPACES = 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"';

/**
 * The last step before the machine's own program, when the parent's death is sure to end this process: says so, then
 * takes the environment, which is complete when it ends in `go=1`. An engine that died meanwhile has sent no such line.
 */
const GO = `echo armed >&${STATUS_FD}; unset LC_ALL; go=; eval "$(cat <&${ORDERS_FD})"; [ "$go" = 1 ] || exit 1; unset go; exec "$@" ${ORDERS_FD}<&- ${STATUS_FD}>&-`;

/** Limits that processes carry themselves (`taskset`, RLIMIT_DATA, RLIMIT_NPROC). */
export interface ProcessLimits {
  cpuList?: string | undefined;
  dataMb?: number;
  pids?: number;
}

export interface LaunchPlan {
  host: Host;
  joinFiles: string[];
  root: string;
  skeleton: string;
  fstab: string;
  /** Letters, digits and hyphens. */
  hostname: string;
  /** First host id of the machine's range (`root`). */
  firstId: number;
  gatewayLink: string;
  limits: ProcessLimits;
  command: string[];
}

/** The whole command line that boots a machine. Secrets are not in it: the environment is sent over `ORDERS_FD`. */
export function launchCommand(plan: LaunchPlan): string[] {
  const { tools, mode } = plan.host;
  const isRoot = mode === 'root';
  const boot = [
    ...[tools.sh, BOOT, plan.root, plan.skeleton, plan.fstab],
    isRoot ? `${plan.firstId}:${plan.firstId}` : '',
    mode === 'subuid' ? '1000:1000' : '',
    ...[plan.gatewayLink, ownSettings(plan)],
  ];
  const own = isRoot
    ? [tools.unshare, '--user', '--mount', '--keep-caps', tools.sh, '-c', MAPPED, 'mapped']
    : mode === 'subuid'
      ? [tools.sh, '-c', FORBID_USER_NAMESPACES, 'forbid']
      : [];
  return [
    // Ends `unshare` with the engine, and `--kill-child` ends the machine with `unshare`.
    ...[tools.setpriv, '--pdeathsig', 'KILL'],
    ...ownKeyring(tools),
    ...joinCgroups(tools, plan.joinFiles),
    ...[tools.unshare, ...(isRoot ? [] : USER_MAP[mode]), ...NAMESPACES],
    ...boot,
    ...own,
    ...limitCommand(plan),
    ...asMachineRoot(plan.host),
    ...[tools.sh, '-c', GO, 'go', '/bin/sh', INSIDE.init, ...plan.command],
  ];
}

/** Words before a command that runs in the cgroups of `joinFiles` (their `cgroup.procs`). */
export function joinCgroups(tools: Tools, joinFiles: string[]): string[] {
  return joinFiles.length > 0 ? [tools.sh, '-c', JOIN, 'join', ...joinFiles, '--'] : [];
}

/** `setpriv` with what the machine's root may do. A change of ids clears the death signal, so it is set again here. */
export function asMachineRoot({ mode, tools }: Pick<Host, 'mode' | 'tools'>): string[] {
  const bounding = ['-all', ...AGENT_CAPABILITIES.map((name) => `+${name}`)].join(',');
  return [
    ...[tools.setpriv, '--pdeathsig', 'KILL', '--no-new-privs', '--inh-caps', '-all'],
    ...(mode === 'root' ? ['--reuid', '0', '--regid', '0', '--clear-groups'] : []),
    // With a single id the agent makes a second user in namespaces of its own and needs all it has for that.
    ...(mode === 'single' ? [] : ['--bounding-set', bounding]),
  ];
}

/** Shell words that set what belongs to the machine's own uts and network namespaces. */
function ownSettings({ host: { tools }, hostname }: LaunchPlan): string {
  const name = tools.hostname && `${tools.hostname} ${hostname}`;
  return [name, loopbackUp(tools)].filter(Boolean).join('; ');
}

function limitCommand({ host: { tools }, limits }: LaunchPlan): string[] {
  const resources = [
    ...(limits.pids === undefined ? [] : [`--nproc=${limits.pids}`]),
    ...(limits.dataMb === undefined ? [] : [`--data=${limits.dataMb * 1024 * 1024}`]),
  ];
  return [
    ...(resources.length > 0 ? [tools.prlimit, ...resources] : []),
    ...(limits.cpuList && tools.taskset ? [tools.taskset, '--cpu-list', limits.cpuList] : []),
  ];
}

/** How the agent is told to run user code (`MOBVIBE_AGENT_USER`). */
export function agentUser(mode: Mode): string {
  return mode === 'single' ? 'nested' : '1000:1000';
}

/** Shell text that exports `env`. A name that no shell variable can have is the caller's mistake. */
export function exportText(env: Record<string, string>): string {
  return Object.entries(env)
    .map(([name, value]) => {
      if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
        throw new RangeError(`env: the name "${name}" can't be exported`);
      if (value.includes('\0')) throw new RangeError(`env: the value of "${name}" holds a NUL character`);
      return `export ${name}='${value.replaceAll("'", `'\\''`)}'\n`;
    })
    .join('');
}
