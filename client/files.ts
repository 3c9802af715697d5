import { Readable } from 'node:stream';
import type { FileStat } from '../controller/api/schemas.ts';
import { MobVibeError } from './errors.ts';
import { readLines } from './ndjson.ts';
import type { CallOptions, Transport } from './transport.ts';
import { getTree, putTree, type TreeOptions, type TreeSummary } from './tree.ts';

/** Deadline of moving one file, milliseconds. */
const TRANSFER_TIMEOUT_MS = 3_600_000;
/** Deadline of listing all that is below a folder, milliseconds. */
const LIST_TIMEOUT_MS = 600_000;

export interface RangeOptions extends CallOptions {
  /** First byte. Default 0. */
  offset?: number;
  /** How many bytes at most. Default: to the end. */
  length?: number;
}

export interface WriteOptions extends CallOptions {
  /** Permission bits, e.g. `0o755`. Default: those of the file that was there, or 0o644. */
  mode?: number;
}

/** The files of one session's `/workspace`. Paths are relative to it. */
export class Files {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, sessionId: string) {
    this.#transport = transport;
    this.#path = `/v1/sessions/${sessionId}/files`;
  }

  /** The content of a file, all in memory. */
  read(path: string, { offset, length, ...call }: RangeOptions = {}): Promise<Buffer> {
    return this.#transport.bytes({
      method: 'GET',
      path: this.#path,
      query: { path, offset, length },
      repeatable: true,
      timeoutMs: TRANSFER_TIMEOUT_MS,
      ...call,
    });
  }

  /** The content of a file as UTF-8 text. */
  async readText(path: string, options: CallOptions = {}): Promise<string> {
    return (await this.read(path, options)).toString();
  }

  /**
   * The content of a file as a stream, which fails when the connection breaks: a short file is never taken for a whole one.
   * `timeoutMs` and `signal` hold to its last byte.
   */
  async readStream(path: string, { offset, length, ...call }: RangeOptions = {}): Promise<Readable> {
    return this.#transport.stream({
      method: 'GET',
      path: this.#path,
      query: { path, offset, length },
      repeatable: true,
      timeoutMs: TRANSFER_TIMEOUT_MS,
      ...call,
    });
  }

  /**
   * Writes a file; folders above it are made. What was there is replaced at once or, when the call fails, not at all. A stream
   * is sent as it is read and can't be sent again, so only strings and bytes are retried.
   */
  write(
    path: string,
    content: string | Uint8Array | Readable,
    { mode, ...call }: WriteOptions = {},
  ): Promise<FileStat> {
    return this.#transport.json({
      method: 'PUT',
      path: this.#path,
      query: { path, mode: mode?.toString(8).padStart(3, '0') },
      body: typeof content === 'string' ? Buffer.from(content) : content,
      repeatable: !(content instanceof Readable),
      timeoutMs: TRANSFER_TIMEOUT_MS,
      ...call,
    });
  }

  /** What is at a path; of a symbolic link the link itself. */
  stat(path: string, options: CallOptions = {}): Promise<FileStat> {
    const ask = { method: 'GET', path: `${this.#path}/stat`, query: { path }, repeatable: true };
    return this.#transport.json({ ...ask, ...options });
  }

  /** What is in a folder, sorted by path; with `recursive` in those below it too. */
  async list(path = '.', options: CallOptions & { recursive?: boolean } = {}): Promise<FileStat[]> {
    const { recursive = false, ...call } = options;
    const response = await this.#transport.stream({
      method: 'GET',
      path: `${this.#path}/list`,
      query: { path, recursive: recursive ? 1 : undefined },
      repeatable: true,
      timeoutMs: LIST_TIMEOUT_MS,
      ...call,
    });
    const all: FileStat[] = [];
    try {
      for await (const stats of readLines<FileStat>(response)) all.push(...stats);
    } catch (error) {
      response.destroy();
      throw this.#transport.explain(error);
    }
    return all;
  }

  /** Makes a folder and those above it. One that exists stays as it is. */
  mkdir(path: string, options: CallOptions = {}): Promise<FileStat> {
    return this.#change('mkdir', { path }, true, options);
  }

  move(from: string, to: string, options: CallOptions = {}): Promise<FileStat> {
    return this.#change('move', { from, to }, false, options);
  }

  /** Makes a symbolic link at `path` that points to `target`. */
  symlink(path: string, target: string, options: CallOptions = {}): Promise<FileStat> {
    return this.#change('symlink', { path, target }, false, options);
  }

  /** Removes a file or an empty folder; with `recursive` a folder with all that is in it. */
  async remove(path: string, options: CallOptions & { recursive?: boolean } = {}): Promise<void> {
    const { recursive = false, ...call } = options;
    await this.#transport.text({
      method: 'DELETE',
      path: this.#path,
      query: { path, recursive: recursive ? 1 : undefined },
      repeatable: false,
      ...call,
    });
  }

  /** Whether something is at a path. */
  async exists(path: string, options: CallOptions = {}): Promise<boolean> {
    try {
      await this.stat(path, options);
      return true;
    } catch (error) {
      if (error instanceof MobVibeError && error.code === 'file_not_found') return false;
      throw error;
    }
  }

  /** Copies a whole folder of this computer into the sandbox, with modes and symbolic links. */
  putTree(localDir: string, remoteDir = '.', options: TreeOptions = {}): Promise<TreeSummary> {
    return putTree(this, localDir, remoteDir, options);
  }

  /** Copies a whole folder of the sandbox to this computer, with modes and symbolic links. */
  getTree(remoteDir: string, localDir: string, options: TreeOptions = {}): Promise<TreeSummary> {
    return getTree(this, remoteDir, localDir, options);
  }

  #change(name: string, json: object, repeatable: boolean, options: CallOptions): Promise<FileStat> {
    return this.#transport.json({
      method: 'POST',
      path: `${this.#path}/${name}`,
      json,
      repeatable,
      ...options,
    });
  }
}
