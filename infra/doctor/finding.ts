/** `wrong` keeps a stack from being made or kept up; a `warning` may come to that. */
export type Status = 'ok' | 'warning' | 'wrong' | 'skipped';

export interface Verdict {
  status: Status;
  /** One line; never a secret. */
  says: string;
  /** The command that mends it, as it is typed. */
  mend?: string;
}

export interface Finding extends Verdict {
  /** What was looked at. */
  check: string;
}

export const ok = (says: string): Verdict => ({ status: 'ok', says });
export const skipped = (says: string): Verdict => ({ status: 'skipped', says });
export const warning = (says: string, mend: string): Verdict => ({ status: 'warning', says, mend });
export const wrong = (says: string, mend: string): Verdict => ({ status: 'wrong', says, mend });

export interface Check {
  check: string;
  /** Gets a signal that is aborted at the deadline. */
  look: (signal: AbortSignal) => Promise<Verdict | Verdict[]>;
  /** For when there is no answer. */
  mend: string;
}

/** Looks, but not for longer than that: what gives no answer is wrong. Never rejects. */
export async function lookAt({ check, look, mend }: Check, timeoutMs: number): Promise<Finding[]> {
  const signal = AbortSignal.timeout(timeoutMs);
  const late = new Promise<Verdict>((resolve) => {
    signal.addEventListener('abort', () => resolve(wrong(`no answer within ${timeoutMs / 1000} s`, mend)));
  });
  const seen = look(signal).catch((error: Error) => wrong(error.message, mend));
  const verdicts = await Promise.race([seen, late]);
  return [verdicts].flat().map((verdict) => ({ check, ...verdict }));
}
