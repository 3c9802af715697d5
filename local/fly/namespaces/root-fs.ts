import { lstatSync, readlinkSync, statSync } from 'node:fs';
import { cp, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CgroupView } from './cgroups.ts';

const INIT = fileURLToPath(new URL('../../../image/init/init.sh', import.meta.url));

/** Where things are inside a machine. */
export const INSIDE = {
  node: '/opt/node/bin/node',
  agent: '/opt/agent',
  init: '/opt/init.sh',
  workspace: '/workspace',
  home: '/home/user',
  /** The agent's own, on disk, closed to all but the machine's root. */
  agentState: '/var/lib/mobvibe',
  gateway: '/run/mobvibe',
  /** Closed to all but the machine's root; `gateway` is a link into it. */
  gatewayBehindRoot: '/root/mobvibe',
  path: '/opt/node/bin:/usr/local/bin:/usr/bin:/bin',
} as const;

const DEVICES = ['null', 'zero', 'full', 'random', 'urandom', 'tty'];
const LIBRARY_FOLDERS = ['bin', 'sbin', 'lib', 'lib32', 'lib64', 'libx32'];
/** Copied from the host where it has them: names, libraries' index, time zone. */
const ETC_FILES = ['ld.so.cache', 'ld.so.conf', 'localtime', 'protocols', 'services', 'mime.types'];
const ETC_FOLDERS = ['ssl', 'alternatives'];

const ETC: Record<string, string> = {
  passwd:
    'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/bash\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  group: 'root:x:0:\ntty:x:5:\nuser:x:1000:\nnogroup:x:65534:\n',
  hosts: '127.0.0.1 localhost\n::1 localhost\n',
  'resolv.conf': '',
  'nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
};

/**
 * Makes the folder that each machine's root is a copy of: mount points, links and a small `/etc`. Files of the host's
 * `/etc` that name people, keys or machines are not in it.
 */
export async function makeSkeleton(dir: string): Promise<void> {
  await rm(dir, { recursive: true, force: true });
  const folders = [
    'usr',
    'etc',
    'proc',
    'dev/pts',
    'dev/shm',
    'sys/fs/cgroup',
    'tmp',
    'run',
    'workspace',
    'root',
    'home/user',
    'var/tmp',
    'var/lib/mobvibe',
    'opt/agent',
    'opt/node/bin',
  ];
  for (const folder of folders) await mkdir(join(dir, folder), { recursive: true, mode: 0o755 });

  for (const name of LIBRARY_FOLDERS) {
    const stat = lstatSync(`/${name}`, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink()) await symlink(readlinkSync(`/${name}`), join(dir, name));
    else if (stat?.isDirectory()) await mkdir(join(dir, name));
  }
  for (const name of ETC_FOLDERS.filter((name) => isFolder(`/etc/${name}`)))
    await mkdir(join(dir, 'etc', name));
  for (const name of ETC_FILES) {
    await cp(`/etc/${name}`, join(dir, 'etc', name), { dereference: true }).catch(() => undefined);
  }
  for (const [name, text] of Object.entries(ETC))
    await writeFile(join(dir, 'etc', name), text, { mode: 0o644 });

  for (const name of DEVICES) await writeFile(join(dir, 'dev', name), '');
  const links = { ptmx: 'pts/ptmx', fd: '/proc/self/fd', stdin: 'fd/0', stdout: 'fd/1', stderr: 'fd/2' };
  for (const [name, target] of Object.entries(links)) await symlink(target, join(dir, 'dev', name));
  await symlink('../run', join(dir, 'var/run'));

  await writeFile(join(dir, INSIDE.node), '');
  await cp(INIT, join(dir, INSIDE.init));
}

export interface RootFs {
  root: string;
  /** Folders on disk of this machine alone: `workspace`, `home`, `state`, `tmp`, `var-tmp`. */
  disk: string;
  agent: string;
  node: string;
  /** Absent: nothing of the host can be reached. */
  gateway: string | undefined;
  /** Host id of the machine's uid 0 where mounts are made before its user namespace, else 0. */
  firstId: number;
  /** Without, there is no group for terminals, and no user from whom the gateway could be kept by its folder's mode. */
  severalUsers: boolean;
  cgroups: CgroupView[];
}

/** The mounts of a machine's private root, as one table for `mount -a -T`. */
export function fstab(fs: RootFs, hostMounts: string[]): string {
  const readOnly = 'bind,ro,nosuid,nodev';
  const lines: string[] = [];
  const add = (source: string, target: string, type: string, options: string) =>
    lines.push(`${fstabField(source)} ${fstabField(join(fs.root, target))} ${type} ${options} 0 0`);
  const bindTree = (folder: string) => {
    add(folder, folder, 'none', `r${readOnly}`);
    // `rbind,ro` leaves what is mounted below writable (util-linux 2.38), so each is covered by a read-only view.
    for (const mount of hostMounts) if (mount.startsWith(`${folder}/`)) add(mount, mount, 'none', readOnly);
  };

  bindTree('/usr');
  for (const name of LIBRARY_FOLDERS) {
    if (lstatSync(`/${name}`, { throwIfNoEntry: false })?.isDirectory()) bindTree(`/${name}`);
  }
  for (const name of ETC_FOLDERS) if (isFolder(`/etc/${name}`)) bindTree(`/etc/${name}`);
  add(fs.node, INSIDE.node, 'none', readOnly);
  add(fs.agent, INSIDE.agent, 'none', readOnly);
  add('proc', '/proc', 'proc', 'nosuid,nodev,noexec');
  for (const name of DEVICES) add(`/dev/${name}`, `/dev/${name}`, 'none', 'bind,nosuid,noexec');

  const owner = `uid=${fs.firstId},gid=${fs.firstId}`;
  const terminals = fs.severalUsers ? `,gid=${fs.firstId + 5}` : '';
  add('devpts', '/dev/pts', 'devpts', `newinstance,nosuid,noexec,ptmxmode=0666,mode=0620${terminals}`);
  add('tmpfs', '/dev/shm', 'tmpfs', `size=64m,mode=1777,nosuid,nodev,${owner}`);
  add('tmpfs', '/run', 'tmpfs', `size=8m,mode=755,nosuid,nodev,${owner}`);
  add('tmpfs', '/root', 'tmpfs', `size=8m,mode=700,nosuid,nodev,${owner}`);
  const disk = {
    workspace: INSIDE.workspace,
    home: INSIDE.home,
    state: INSIDE.agentState,
    // Not in memory, which user code could fill by them.
    tmp: '/tmp',
    'var-tmp': '/var/tmp',
  };
  for (const [name, target] of Object.entries(disk)) {
    add(join(fs.disk, name), target, 'none', 'bind,nosuid,nodev');
  }
  for (const view of fs.cgroups) {
    add(view.type, view.at, view.type, `${view.options},nosuid,nodev,noexec,X-mount.mkdir`);
  }
  if (fs.gateway) {
    const target = fs.severalUsers ? INSIDE.gatewayBehindRoot : INSIDE.gateway;
    add(fs.gateway, target, 'none', `${readOnly},X-mount.mkdir`);
  }
  return `${lines.join('\n')}\n`;
}

/** Mount points of this process, from `/proc/self/mountinfo`'s text. */
export function mountPoints(mountinfo: string): string[] {
  return mountinfo
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? [])
    .map((path) =>
      path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    );
}

/** As fstab(5) wants white space and backslashes. */
function fstabField(path: string): string {
  return path.replace(/[\s\\#]/g, (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
