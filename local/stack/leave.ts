import { MobVibe, type MobVibeError } from '../../client/index.ts';
import { listNotSaved, type NotSaved, stopAll } from '../../client/stop-all.ts';

/** A save that fails must not keep Ctrl-C from ending the stack for ever. */
const SAVE_MS = 60_000;

export interface LeaveOptions {
  url: string;
  apiKey: string;
  /** One line of progress. */
  tell: (line: string) => void;
  /** Raised when nobody wants to wait any longer. */
  hurry: AbortSignal;
  /** Default 60000. */
  mostMs?: number;
}

/** Stops all open sessions, so that their files are saved before their machines go. Answers null, or a sentence on what is lost. */
export async function saveAndStopSessions(options: LeaveOptions): Promise<string | null> {
  const { url, apiKey, tell, hurry, mostMs = SAVE_MS } = options;
  using mobvibe = new MobVibe({ url, apiKey });
  let left: NotSaved[];
  try {
    left = await stopAll(mobvibe, {
      mostMs,
      signal: hurry,
      onBegin(ids) {
        const what = ids.length === 1 ? 'session' : `${ids.length} sessions`;
        tell(`saving and stopping ${what} ${ids.join(', ')} … (Ctrl-C again: without their unsaved changes)`);
      },
      onStopped: (id) => tell(`${id} is saved and stopped`),
    });
  } catch (error) {
    const { detail, message } = error as MobVibeError;
    return `The controller can't be asked which sessions are open (${detail ?? message}): what is not saved in them is lost.`;
  }
  if (left.length === 0) return null;
  if (hurry.aborted) {
    return `Not saved, what was changed since their last save is lost: ${left.map(({ id }) => id).join(', ')}.`;
  }
  const seconds = Math.round(mostMs / 1000);
  return `Not saved after ${seconds} s, what was changed since their last save is lost: ${listNotSaved(left)}.`;
}
