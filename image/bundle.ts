import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** A program that an image holds as one file, and the module it starts at. */
export interface Program {
  file: string;
  entry: string;
}

export const AGENT: Program = { file: 'agent.js', entry: 'image/agent/main.ts' };

/** What the controller's image can run. */
export const CONTROLLER_PROGRAMS: readonly Program[] = [
  { file: 'controller.js', entry: 'controller/main.ts' },
  { file: 'egress.js', entry: 'controller/egress/main.ts' },
];

/** Files of the repository that a build context takes as they are: name in the context, path in the repository. */
const SANDBOX_FILES = {
  Dockerfile: 'image/Dockerfile',
  'system/furnish.sh': 'image/system/furnish.sh',
  'init/start.sh': 'image/init/start.sh',
  'init/init.sh': 'image/init/init.sh',
  'expo/prepare.sh': 'image/expo/prepare.sh',
  'expo/seed-caches.js': 'image/expo/seed-caches.js',
  'expo/new-expo-app.sh': 'image/expo/new-expo-app.sh',
};
const CONTROLLER_FILES = { Dockerfile: 'controller/Dockerfile' };

/** The program and all that it imports, as one file for Node 24. The same sources give the same bytes in any checkout. */
export function bundle(entry: string): Uint8Array {
  const { outputFiles } = buildSync({
    absWorkingDir: ROOT,
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    target: 'node24',
    // Faster to start than ESM: what is imported late is loaded late.
    format: 'cjs',
    minifySyntax: true,
    // Without, comments and names tell the path of `node_modules`, which may be a link.
    preserveSymlinks: true,
    write: false,
    logLevel: 'silent',
    // Optional native helpers; `ws` and `pg` work without them.
    external: ['bufferutil', 'utf-8-validate', 'pg-native'],
  });
  return outputFiles[0]!.contents;
}

export interface SandboxContextOptions {
  /**
   * A folder with `bin/node` (and for the target `expo` npm), copied over the image's `/usr/local`: for a base image that
   * brings no Node. Default: none.
   */
  node?: string;
}

/**
 * Writes the build context of `image/Dockerfile` into `dir`, which is made where it's missing. Two calls write the same
 * bytes, modes and times. Throws where `dir` holds anything that is not of a context: it would go into the build.
 */
export function writeSandboxContext(dir: string, options: SandboxContextOptions = {}): void {
  const files = { ...read(SANDBOX_FILES), [AGENT.file]: bundle(AGENT.entry) };
  writeContext(dir, files, ['node']);
  const node = join(dir, 'node');
  rmSync(node, { recursive: true, force: true });
  mkdirSync(node);
  chmodSync(node, 0o755);
  if (options.node !== undefined) cpSync(options.node, node, { recursive: true, verbatimSymlinks: true });
}

/** The same for `controller/Dockerfile`. */
export function writeControllerContext(dir: string): void {
  const programs = CONTROLLER_PROGRAMS.map(({ file, entry }) => [file, bundle(entry)] as const);
  writeContext(dir, { ...read(CONTROLLER_FILES), ...Object.fromEntries(programs) }, []);
}

function read(paths: Record<string, string>): Record<string, Uint8Array> {
  return Object.fromEntries(
    Object.entries(paths).map(([name, path]) => [name, readFileSync(join(ROOT, path))]),
  );
}

function writeContext(dir: string, files: Record<string, Uint8Array>, alsoHere: string[]): void {
  mkdirSync(dir, { recursive: true });
  const known = new Set([...Object.keys(files).map((name) => name.split('/')[0]), ...alsoHere]);
  const foreign = readdirSync(dir).find((name) => !known.has(name));
  if (foreign !== undefined) {
    throw new Error(`${dir} is no build context of ours: it holds "${foreign}". Give an empty folder`);
  }
  for (const [name, contents] of Object.entries(files)) {
    const path = join(dir, name);
    const folder = dirname(path);
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, 0o755);
    writeFileSync(path, contents);
    // Beyond the reach of this process' umask. Times are part of an image's digest.
    chmodSync(path, 0o644);
    utimesSync(path, 0, 0);
    utimesSync(folder, 0, 0);
  }
}
