import type { Failure } from './classify.ts';

/** What can be read from an answer of any status. */
export interface Answer {
  /** The JSON; undefined for an empty body. */
  body: unknown;
  /** False for a proxy's page and the like. */
  isJson: boolean;
  /** Fly's code word, e.g. `insufficient_capacity`. */
  code: string | undefined;
  /** Fly's text for people. */
  words: string;
}

/**
 * Errors are `{"error","status"?}`; leases answer `{"status":"error","message"}`; a proxy in front answers
 * with a page.
 */
export function readAnswer(text: string): Answer {
  const { body, isJson } = parse(text);
  const fields = (typeof body === 'object' && body !== null ? body : {}) as {
    error?: unknown;
    message?: unknown;
    status?: unknown;
  };
  const words = [fields.message, fields.error].find((word) => typeof word === 'string' && word !== '');
  return {
    body,
    isJson,
    code: typeof fields.status === 'string' ? fields.status : undefined,
    words: typeof words === 'string' ? words : plain(text),
  };
}

function parse(text: string): { body: unknown; isJson: boolean } {
  if (text.trim() === '') return { body: undefined, isJson: true };
  try {
    return { body: JSON.parse(text), isJson: true };
  } catch {
    return { body: undefined, isJson: false };
  }
}

function plain(text: string): string {
  return text
    .replace(/<[^>]*>/g, ' ')
    .replace(/\s+/g, ' ')
    .trim();
}

const LONGEST_DETAIL = 500;

/**
 * A text fit for an error: an answer may quote what was sent, so the secrets go out of it. A token of several
 * macaroons is as many secrets.
 */
export function redact(text: string, token: string, secrets: readonly string[]): string {
  const tokens = token.split(/[\s,]+/).filter((part) => !/^(?:FlyV1|Bearer)?$/i.test(part));
  let clean = text;
  for (const secret of [...tokens, ...secrets]) {
    if (secret !== '') clean = clean.replaceAll(secret, '[secret]');
  }
  return clean.length > LONGEST_DETAIL ? `${clean.slice(0, LONGEST_DETAIL)}…` : clean;
}

/** For a failure without an answer, in words. */
export function describe(failure: Exclude<Failure, { type: 'reply' }>): string {
  return failure.type === 'no_answer' ? NO_ANSWER[failure.why] : NO_ANSWER[failure.type];
}

const NO_ANSWER = {
  never_sent: 'no connection to the Machines API; nothing was sent',
  bad_reply: 'the answer is not what the Machines API answers',
  disconnected: 'the connection broke before the answer was complete',
  timeout: 'no answer in the time given',
  aborted: 'aborted while it was under way',
} as const;
