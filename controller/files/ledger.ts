import type { SandboxRow } from '../store/rows.ts';

interface Entry {
  app: string;
  /** All that was in the workspace then is saved; Unix milliseconds. */
  savedAt: number;
  /** Since this controller looks after it. */
  seenAt: number;
  failing: boolean;
  /** The save under way has found changes. */
  changed: boolean;
}

/**
 * What this controller knows of the saves of its sandboxes, for the metrics alone. Whether a workspace has changes shows only when it is
 * packed, so it counts as changed when its last save failed, when the one under way has found changes, and when none has ended for twice
 * as long as there should be between two.
 */
export class SaveLedger {
  readonly #entries = new Map<string, Entry>();

  /** `now`: Unix milliseconds, here and below. */
  open(row: SandboxRow, now: number): void {
    this.#entry(row, now);
  }

  changed(row: SandboxRow, now: number): void {
    this.#entry(row, now).changed = true;
  }

  /** A save succeeded that had begun at `startedAt`. */
  saved(row: SandboxRow, startedAt: number): void {
    Object.assign(this.#entry(row, startedAt), { savedAt: startedAt, failing: false, changed: false });
  }

  failed(row: SandboxRow, now: number): void {
    Object.assign(this.#entry(row, now), { failing: true, changed: false });
  }

  /** A save was broken off: nothing is known of its changes. */
  brokenOff({ name }: SandboxRow): void {
    const entry = this.#entries.get(name);
    if (entry !== undefined) entry.changed = false;
  }

  forget(name: string): void {
    this.#entries.delete(name);
  }

  /** Forgets those for which it is not true. */
  keep(wanted: (name: string, app: string) => boolean): void {
    for (const [name, { app }] of this.#entries) if (!wanted(name, app)) this.#entries.delete(name);
  }

  get failing(): number {
    return [...this.#entries.values()].filter(({ failing }) => failing).length;
  }

  /** An upper bound, milliseconds; 0 where nothing is unsaved. */
  oldestUnsavedMs(now: number, saveIntervalMs: number): number {
    let oldest = 0;
    for (const { savedAt, seenAt, failing, changed } of this.#entries.values()) {
      const overdue = now - Math.max(savedAt, seenAt) > 2 * saveIntervalMs;
      if (failing || changed || overdue) oldest = Math.max(oldest, now - savedAt);
    }
    return oldest;
  }

  #entry({ name, app, ready_at, created_at }: SandboxRow, now: number): Entry {
    const known = this.#entries.get(name);
    if (known !== undefined) return known;
    const savedAt = Date.parse(ready_at ?? created_at);
    const entry = { app, savedAt, seenAt: now, failing: false, changed: false };
    this.#entries.set(name, entry);
    return entry;
  }
}
