import { constants } from 'node:os';
import { type ExecResult, MobVibeError } from '../index.ts';

export const EXIT = {
  failed: 1,
  usage: 2,
  /** As timeout(1) does. */
  deadline: 124,
  /** The command has no result, as with `docker run`. */
  noResult: 125,
  /** 128 + SIGPIPE: what a command gets whose output nobody reads any more. */
  readerGone: 141,
} as const;

/** What a shell would have seen, had the command run here. */
export function exitCodeOfResult(result: ExecResult): number {
  switch (result.kind) {
    case 'exited':
      return result.code;
    case 'signaled':
      return 128 + (constants.signals[result.signal as NodeJS.Signals] ?? 0);
    case 'timed_out':
      return EXIT.deadline;
    default:
      return EXIT.noResult;
  }
}

export function exitCodeOfError(error: unknown): number {
  if (error instanceof NoResultError) return EXIT.noResult;
  const isSetup =
    error instanceof MobVibeError && ['controller_unreachable', 'invalid_option'].includes(error.code);
  return isSetup ? EXIT.usage : EXIT.failed;
}

/** A command was to be run and nothing can be said of how it ended. Its cause says why. */
export class NoResultError extends Error {
  override readonly name = 'NoResultError';
  constructor(cause: unknown) {
    super('The command has no result', { cause });
  }
}
