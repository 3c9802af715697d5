import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/**
 * One JSON file per record in a folder. A write replaces the file at once (rename), so that a reader after `kill -9` finds the old
 * or the new record and never half of one. Synchronous on purpose: a change is on disk before anybody is told of it, in order.
 */
export class Records<T> {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** All records; throws an error that names the file when one cannot be read. */
  load(): T[] {
    const records: T[] = [];
    for (const file of readdirSync(this.#folder)) {
      const path = join(this.#folder, file);
      if (!file.endsWith('.json')) {
        rmSync(path, { force: true }); // A write that was cut off before its rename.
        continue;
      }
      try {
        records.push(JSON.parse(readFileSync(path, 'utf8')) as T);
      } catch (cause) {
        throw new Error(`local Fly cannot read its record ${path}; remove the file to forget it`, { cause });
      }
    }
    return records;
  }

  /**
   * `durable` waits for the disk as well: for the first write of something that a caller will be told exists. Later changes only
   * have to outlive this process; a power cut ends every machine anyway.
   */
  save(key: string, record: T, { durable = false } = {}): void {
    const path = this.#path(key);
    const temporary = `${path}.new`;
    const file = openSync(temporary, 'w', 0o600);
    try {
      writeFileSync(file, JSON.stringify(record));
      if (durable) fdatasyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  }

  remove(key: string): void {
    rmSync(this.#path(key), { force: true });
  }

  #path(key: string): string {
    return join(this.#folder, `${key}.json`);
  }
}
