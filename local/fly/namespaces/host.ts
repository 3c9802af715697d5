import { readFileSync } from 'node:fs';
import { EngineError } from '../engine.ts';
import { runTool } from './run.ts';
import { findTools, type Tools } from './tools.ts';

/**
 * How machines get their users:
 * - `root`: real root mounts everything, then gives each machine a user namespace with ids of its own.
 * - `subuid`: an ordinary user with a range in `/etc/subuid`, mapped by `newuidmap`.
 * - `single`: an ordinary user without; the machine has one user, and the agent makes a second one in a namespace of its own.
 */
export type Mode = 'root' | 'subuid' | 'single';

export interface Host {
  mode: Mode;
  tools: Tools;
  /** Why no better mode is used, for the report. */
  refused: { mode: Mode; reason: string }[];
}

/** Flags of `unshare` for a machine's namespaces, but the user namespace. */
export const NAMESPACES = [
  '--pid',
  '--mount',
  '--ipc',
  '--uts',
  '--net',
  '--cgroup',
  '--fork',
  '--kill-child',
];

/** Flags of `unshare` that make the machine's user namespace where an ordinary user may. */
export const USER_MAP: Record<Exclude<Mode, 'root'>, string[]> = {
  subuid: ['--map-root-user', '--map-auto'],
  single: ['--map-root-user'],
};

/** Tries what this host can do, best first. Throws `unsupported_host` with what each try said. */
export async function probeHost(platform = process.platform): Promise<Host> {
  if (platform !== 'linux') {
    throw new EngineError(
      'unsupported_host',
      `The namespaces engine needs Linux; this is ${platform}. Use the docker engine here`,
    );
  }
  const tools = findTools();
  const refused: Host['refused'] = [];
  for (const mode of candidates()) {
    const reason = await tryMode(mode, tools);
    if (reason === undefined) return { mode, tools, refused };
    refused.push({ mode, reason });
  }
  const said = refused.map(({ mode, reason }) => `${mode}: ${reason}`).join('; ');
  throw new EngineError('unsupported_host', `This host lets no machine be made (${said})`);
}

function candidates(): Mode[] {
  if (process.getuid?.() !== 0) return ['subuid', 'single'];
  // Root of a container may itself live in a user namespace that has no further ids to give.
  return /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync('/proc/self/uid_map', 'utf8'))
    ? ['root', 'single']
    : ['single'];
}

/** `undefined` when the mode works here, else what is missing. */
async function tryMode(mode: Mode, tools: Tools): Promise<string | undefined> {
  const map = mode === 'root' ? [] : USER_MAP[mode];
  const inner = mode === 'root' ? [tools.unshare, '--user', '--mount', '--keep-caps'] : [];
  const result = await runTool([
    tools.unshare,
    ...map,
    ...NAMESPACES,
    '--mount-proc',
    ...inner,
    tools.sh,
    '-c',
    ':',
  ]);
  return result.code === 0 ? undefined : explain(result.stderr);
}

/** Turns what `unshare` says into what a person can do about it. Exported for its test. */
export function explain(stderr: string): string {
  const hints: [RegExp, string][] = [
    [
      /no line matching user|newuidmap/,
      'no id range for this user in /etc/subuid and /etc/subgid, or no newuidmap (package uidmap)',
    ],
    [
      /No space left on device/,
      'user namespaces are used up or switched off (sysctl user.max_user_namespaces)',
    ],
    [
      /mount \/proc failed/,
      '/proc is partly covered by other mounts, as in a container, so no machine can have its own',
    ],
    [
      /unshare failed: Operation not permitted/,
      'user namespaces are not allowed for this user (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, or a container without CAP_SYS_ADMIN)',
    ],
    [/unrecognized option/, 'util-linux is older than 2.38'],
  ];
  const hint = hints.find(([pattern]) => pattern.test(stderr))?.[1];
  return hint ? `${hint}: ${stderr}` : stderr || 'unshare failed without a word';
}
