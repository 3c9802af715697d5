import { setTimeout as sleep } from 'node:timers/promises';
import { log } from '../log.ts';
import { Calm, type Process, processes, send, sendToGroup } from './processes.ts';
import { Standstill } from './standstill.ts';
import type { Finder } from './whose.ts';

const LOOK_EVERY_MS = 20;
/** Between looks of what must go on at once. */
const STEP_MS = 2;
/** Those that fork all the time are made to stand still before they are killed: so long it is tried. */
const STOP_PATIENCE_MS = 1_000;
const COMPLAIN_AFTER_MS = 10_000;

export interface Ended {
  /** Got SIGTERM. */
  terminated: number;
  /** Were still there after the grace and had to be killed. */
  killed: number;
}

export interface UserProcessesParts {
  find: Finder;
  /** Kills all of them at one stroke, where there is a way to; may fail. Settles when it is done. */
  killAll?: () => Promise<void>;
  now: () => number;
  /** So long they may take to stand still. Default 2000. */
  freezePatienceMs?: number;
}

/** All that user code runs, in whatever group, session or daemon. */
export class UserProcesses {
  readonly #parts: UserProcessesParts;

  constructor(parts: UserProcessesParts) {
    this.#parts = parts;
  }

  count(): number {
    return this.#parts.find().length;
  }

  /**
   * Stops them where they are, until a look finds none that runs. Answers what lets them go on; those that were stopped before stay so.
   * Rejects when they won't stand still, and lets them go on then.
   */
  async freeze(): Promise<() => Promise<void>> {
    const { find, now, freezePatienceMs = 2_000 } = this.#parts;
    const standstill = new Standstill(find);
    const until = now() + freezePatienceMs;
    try {
      while (!standstill.look()) {
        if (now() > until) throw new Error(`Processes of the user went on for ${freezePatienceMs} ms`);
        await sleep(STEP_MS);
      }
    } catch (error) {
      standstill.end();
      throw error;
    }
    return async () => standstill.end();
  }

  /** SIGTERM, and SIGKILL to those that are left after `graceMs`. Settles when a look finds none. */
  async end(graceMs: number): Promise<Ended> {
    const { find, now } = this.#parts;
    const first = find();
    for (const { pid, state } of first) {
      send(pid, 'SIGTERM');
      // One that is stopped hears of it only when it goes on.
      if (state === 'T') send(pid, 'SIGCONT');
    }
    const began = now();
    const calm = new Calm();
    const none = () => calm.after(() => find().length === 0);
    while (!none() && now() - began < graceMs) {
      await sleep(Math.min(LOOK_EVERY_MS, graceMs));
      wakeChildren();
    }
    return { terminated: first.length, killed: await this.#kill() };
  }

  async #kill(): Promise<number> {
    const { find, now, killAll } = this.#parts;
    const killed = new Set<string>();
    const strokes: unknown[] = [];
    const began = now();
    const standstill = new Standstill(find);
    let complained = false;
    let left: Process[] = [];
    const calm = new Calm();
    const none = () => {
      left = find();
      return left.length === 0;
    };
    while (!calm.after(none)) {
      if (left.length === 0) continue;
      for (const { pid, born } of left) killed.add(`${pid} ${born}`);
      strokes.push(killAll?.());
      // Of those that fork all the time some are always born after the look; whoever stands still has no more children.
      const round = now();
      while (!standstill.look() && now() - round < STOP_PATIENCE_MS) await sleep(STEP_MS);
      for (const { pid, group } of find()) {
        send(pid, 'SIGKILL');
        sendToGroup(group, 'SIGKILL');
      }
      await sleep(STEP_MS);
      wakeChildren();
      if (!complained && now() - began > COMPLAIN_AFTER_MS) {
        complained = true;
        log('warn', 'processes of the user do not die', { pids: left.map(({ pid }) => pid).slice(0, 20) });
      }
    }
    standstill.end();
    wakeChildren();
    await Promise.all(strokes);
    return killed.size;
  }
}

/** What the agent has started to look after a process of the user's may have stopped with it, and would not see its end. */
function wakeChildren(): void {
  for (const { pid, parent, state } of processes()) {
    if (parent === process.pid && state === 'T') send(pid, 'SIGCONT');
  }
}
