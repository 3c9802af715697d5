import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { EngineError } from '../engine.ts';

const FOLDERS = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** What is needed, and the Debian package that has it. */
const NEEDED = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  prlimit: 'util-linux',
  mount: 'mount',
  umount: 'mount',
  pivot_root: 'util-linux',
  sh: 'dash',
  env: 'coreutils',
  cp: 'coreutils',
  rm: 'coreutils',
  chown: 'coreutils',
} as const;

/** Done without where the host has none; the report says what is lost. */
const WELCOME = ['taskset', 'ip', 'perl', 'hostname'] as const;

export type Tools = Record<keyof typeof NEEDED, string> & Partial<Record<(typeof WELCOME)[number], string>>;

/** Environment of every host tool: nothing of the caller's, so that no `LD_PRELOAD` or locale reaches a root shell. */
export const TOOL_ENV = { PATH: FOLDERS.join(':'), LC_ALL: 'C' };

/** Absolute paths of the host's tools. Throws `unsupported_host` that names every missing one. */
export function findTools(folders = FOLDERS): Tools {
  const which = (name: string) => folders.map((folder) => join(folder, name)).find(isExecutable);
  const missing = Object.entries(NEEDED).filter(([name]) => !which(name));
  if (missing.length > 0) {
    const names = missing.map(([name, pack]) => `${name} (package ${pack})`).join(', ');
    throw new EngineError(
      'unsupported_host',
      `The namespaces engine needs ${names}, not found in ${folders.join(':')}`,
    );
  }
  const entries = [...Object.keys(NEEDED), ...WELCOME].map((name) => [name, which(name)]);
  return Object.fromEntries(entries.filter(([, path]) => path)) as Tools;
}

/** Shell words that bring the loopback interface of a new network namespace up; `undefined` where no tool can. */
export function loopbackUp(tools: Tools): string | undefined {
  if (tools.ip) return `${tools.ip} link set lo up`;
  // SIOCSIFFLAGS with IFF_UP on `lo`.
  const script =
    'use Socket; socket(S,AF_INET,SOCK_DGRAM,0); ioctl(S,0x8914,pack("a16s x22","lo",1)) or die $!';
  return tools.perl && `${tools.perl} -e '${script}'`;
}

/** keyctl(2) has another number on each kind of processor. */
const KEYCTL: Partial<Record<NodeJS.Architecture, number>> = { x64: 250, arm64: 219 };

/**
 * Words before a command that is to have a new session keyring. Without, it inherits that of whoever started this process, in
 * spite of all namespaces: it could read their keys, and machines could leave keys for each other. Empty where no tool can.
 */
export function ownKeyring({ perl }: Tools, arch = process.arch): string[] {
  const keyctl = KEYCTL[arch];
  if (!perl || keyctl === undefined) return [];
  // 1 is KEYCTL_JOIN_SESSION_KEYRING. Where a container's filter (EPERM) or the kernel (ENOSYS) refuses, keys can't be read either.
  const join = `syscall(${keyctl}, 1, 0) < 0 and !$!{EPERM} and !$!{ENOSYS} and die "no keyring: $!\n"`;
  return [perl, '-e', `use Errno; ${join}; exec {$ARGV[0]} @ARGV or die "$ARGV[0]: $!\n"`, '--'];
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
