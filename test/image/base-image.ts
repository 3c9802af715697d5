import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, existsSync, lstatSync, mkdirSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { docker } from './docker.ts';

/** The default of `image/Dockerfile`. */
const USUAL_BASE = 'node:24-bookworm-slim';
const DPKG = '/var/lib/dpkg';
/** Besides Debian's essential ones: what the image needs, and libraries of Node. */
const PACKAGES = ['git', 'curl', 'ca-certificates', 'passwd', 'login', 'libstdc++6', 'libatomic1'];
/** Made at installation, so that no package lists them. */
const MADE = ['/etc/ssl/certs/ca-certificates.crt', '/etc/ld.so.cache'];
/** Users as they are in a fresh Debian, instead of this machine's own. */
const USERS = ['passwd', 'group'].map(
  (name) => [`usr/share/base-passwd/${name}.master`, `etc/${name}`] as const,
);
const LEFT_OUT = /^\/usr\/share\/(doc|man|info|locale|zoneinfo)\//;

export interface Base {
  ref: string;
  /** To be laid over `/usr/local` where the base has no Node. */
  node: string | undefined;
}

/**
 * An image to build on, with nothing pulled: the usual one where the engine has it, else one of this machine's own Debian
 * files, kept by the engine for the next time. A string says why there is none.
 */
export async function findBase(scratch: string): Promise<Base | string> {
  const usual = await docker(['image', 'inspect', '--format', '{{.Id}}', USUAL_BASE]).catch(() => undefined);
  if (usual !== undefined) return { ref: USUAL_BASE, node: undefined };
  if (process.getuid!() !== 0) return `the engine has no ${USUAL_BASE}, and only root can copy a system`;
  if (!existsSync(join(DPKG, 'status'))) return `the engine has no ${USUAL_BASE}, and this is no Debian`;
  return { ref: await importOwnSystem(), node: ownNode(scratch) };
}

function ownNode(scratch: string): string {
  mkdirSync(join(scratch, 'node/bin'), { recursive: true });
  copyFileSync(process.execPath, join(scratch, 'node/bin/node'));
  return join(scratch, 'node');
}

async function importOwnSystem(): Promise<string> {
  const packages = closure(installed(readFileSync(join(DPKG, 'status'), 'utf8')));
  const versions = packages.map(({ name, version }) => `${name}=${version}`).sort();
  const key = createHash('sha256')
    .update([...versions, ...MADE].join())
    .digest('hex');
  const ref = `mobvibe-test/debian:${key.slice(0, 16)}`;
  if (await docker(['image', 'inspect', ref]).catch(() => undefined)) return ref;

  const files = [...packages.flatMap(filesOf), '/tmp', '/lib64', ...MADE];
  const paths = [...new Set(files.map(unlinked))].filter((path) =>
    lstatSync(path, { throwIfNoEntry: false }),
  );
  const renames = USERS.map(([from, to]) => `--transform=s,${from},${to},`);
  const tar = spawn('tar', ['-c', '--no-recursion', '-C', '/', ...renames, '--null', '-T', '-'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const load = spawn('docker', ['import', '-', ref], { stdio: ['pipe', 'ignore', 'inherit'] });
  tar.stdout.pipe(load.stdin);
  tar.stdin.end(
    paths
      .sort()
      .map((path) => `.${path}\0`)
      .join(''),
  );
  const codes = (await Promise.all([once(tar, 'close'), once(load, 'close')])).map(([code]) => code);
  if (codes.some((code) => code !== 0))
    throw new Error(`tar and docker import ended with ${codes.join(' and ')}`);
  return ref;
}

interface Package {
  name: string;
  version: string;
  arch: string;
  essential: boolean;
  provides: string[];
  /** One of each group is needed. */
  needs: string[][];
}

/** The installed packages of dpkg's status file. */
function installed(status: string): Package[] {
  return status.split('\n\n').flatMap((paragraph) => {
    const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? '';
    const names = (text: string) => text.split(/[,|]/).map(bare).filter(Boolean);
    if (field('Status') !== 'install ok installed') return [];
    return {
      name: field('Package'),
      version: field('Version'),
      arch: field('Architecture'),
      essential: field('Essential') === 'yes',
      provides: names(field('Provides')),
      needs: [field('Pre-Depends'), field('Depends')].join().split(',').map(names),
    };
  });
}

/** `libc6:any (>= 2.36)` is `libc6`. */
function bare(text: string): string {
  return text
    .replace(/\(.*?\)/, '')
    .replace(/:.*/, '')
    .trim();
}

/** Essential packages, the ones named above, and all that these need. */
function closure(packages: Package[]): Package[] {
  const byName = new Map(packages.flatMap((one) => [...one.provides, one.name].map((name) => [name, one])));
  const found = new Set<Package>();
  const add = (one: Package | undefined) => {
    if (one === undefined || found.has(one)) return;
    found.add(one);
    for (const group of one.needs) add(byName.get(group.find((name) => byName.has(name)) ?? ''));
  };
  for (const one of packages) if (one.essential) add(one);
  for (const name of PACKAGES) add(byName.get(name));
  return [...found];
}

function filesOf({ name, arch }: Package): string[] {
  const lists = [`${name}.list`, `${name}:${arch}.list`].map((list) => join(DPKG, 'info', list));
  const list = lists.find((path) => existsSync(path));
  if (list === undefined) return [];
  return readFileSync(list, 'utf8')
    .split('\n')
    .filter((path) => path.length > 1 && path !== '/.' && !LEFT_OUT.test(path));
}

/** `/bin/cat` where `/bin` is a link to `usr/bin`: `/usr/bin/cat`. */
function unlinked(path: string): string {
  const folder = dirname(path);
  return existsSync(folder) ? join(realpathSync(folder), basename(path)) : path;
}
