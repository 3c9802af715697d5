import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { type Host, USER_MAP } from './host.ts';
import { folderDigest, readableByAll } from './image.ts';
import { makeSkeleton } from './root-fs.ts';
import { runTool } from './run.ts';

const REMOVE_TIMEOUT_MS = 120_000;

export interface PreparedImage {
  digest: string;
  /** What becomes `/opt/agent`. */
  dir: string;
}

/** The engine's folder on disk: one folder for each machine, and what machines share. */
export class StateFolder {
  readonly skeleton: string;
  readonly path: string;
  readonly #host: Host;
  readonly #shared: string;
  readonly #images = new Map<string, Promise<PreparedImage>>();

  /** Removes what a former run has left in `path` and makes what machines share anew. */
  static async open(path: string, host: Host): Promise<StateFolder> {
    await mkdir(path, { recursive: true });
    const folder = new StateFolder(await realpath(path), host);
    await Promise.all([folder.#remove(folder.#machines), folder.#remove(folder.#shared)]);
    await Promise.all([mkdir(folder.#machines), mkdir(folder.#shared)]);
    await makeSkeleton(folder.skeleton);
    return folder;
  }

  private constructor(path: string, host: Host) {
    this.path = path;
    this.#host = host;
    this.#shared = join(path, 'shared');
    this.skeleton = join(this.#shared, 'skeleton');
  }

  get #machines(): string {
    return join(this.path, 'machines');
  }

  /** Where Node for machines is: `nodeBinary`, or a copy that every user can run. */
  async node(nodeBinary: string): Promise<string> {
    return readableByAll(await realpath(nodeBinary), join(this.#shared, 'node'));
  }

  /** Reads an image's folder once; what changes there later is seen by machines, but not in the digest. */
  image(dir: string): Promise<PreparedImage> {
    const known = this.#images.get(dir) ?? this.#prepareImage(dir);
    this.#images.set(dir, known);
    known.catch(() => this.#images.delete(dir));
    return known;
  }

  /** Makes a machine's folders, all empty. `firstId`: host id of its root, where that is not the user that runs this. */
  async makeMachine(id: string, firstId: number | undefined): Promise<string> {
    await this.removeMachine(id);
    const folder = join(this.#machines, id);
    await mkdir(folder);
    const modes = {
      root: 0o755,
      workspace: 0o755,
      home: 0o755,
      state: 0o700,
      tmp: 0o1777,
      'var-tmp': 0o1777,
    };
    for (const [name, mode] of Object.entries(modes)) {
      await mkdir(join(folder, name));
      await chmod(join(folder, name), mode); // Whatever the umask is.
      if (firstId === undefined) continue;
      const owner = ['state', 'tmp', 'var-tmp'].includes(name) ? firstId : firstId + 1000;
      await chown(join(folder, name), owner, owner);
    }
    return folder;
  }

  /** Safe to repeat. */
  async removeMachine(id: string): Promise<void> {
    await this.#remove(join(this.#machines, id));
  }

  async #prepareImage(dir: string): Promise<PreparedImage> {
    const source = await realpath(dir);
    const digest = await folderDigest(source);
    return { digest, dir: await readableByAll(source, join(this.#shared, digest.replace(':', '-'))) };
  }

  /** Files may belong to ids of a machine, so an ordinary user removes them as root of such a user namespace. */
  async #remove(path: string): Promise<void> {
    if (!existsSync(path)) return;
    const { mode, tools } = this.#host;
    const asRoot = mode === 'root' ? [] : [tools.unshare, ...USER_MAP[mode]];
    const command = [...asRoot, tools.rm, '-rf', '--one-file-system', '--', path];
    const { code, stderr } = await runTool(command, REMOVE_TIMEOUT_MS);
    if (code !== 0) throw new Error(`The folder ${path} could not be removed: ${stderr}`);
  }
}
