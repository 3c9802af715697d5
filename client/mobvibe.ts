import { MobVibeError } from './errors.ts';
import { Jobs } from './jobs.ts';
import { Sessions } from './sessions.ts';
import { Transport } from './transport.ts';

export interface MobVibeOptions {
  /** Of the controller, `http://` or `https://`. Default: the variable `MOBVIBE_URL`. */
  url?: string;
  /** `mvk_…`. Default: the variable `MOBVIBE_API_KEY`. */
  apiKey?: string;
  /** Deadline of a call that names none and has none of its own, milliseconds. Default 60000. */
  timeoutMs?: number;
}

/**
 * The way to a controller.
 *
 *     const mobvibe = new MobVibe();
 *     await using session = await mobvibe.sessions.create();
 *     const { stdout } = await session.exec('node --version');
 */
export class MobVibe {
  readonly sessions: Sessions;
  readonly jobs: Jobs;
  readonly #transport: Transport;

  /** Throws `invalid_option` when the address or the key is missing or not well-formed. */
  constructor({
    url = process.env.MOBVIBE_URL,
    apiKey = process.env.MOBVIBE_API_KEY,
    timeoutMs = 60_000,
  }: MobVibeOptions = {}) {
    this.#transport = new Transport(checkedUrl(url), checkedKey(apiKey), timeoutMs);
    this.sessions = new Sessions(this.#transport);
    this.jobs = new Jobs(this.#transport);
  }

  /** Ends the kept connections; a process can end without it. */
  close(): void {
    this.#transport.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function checkedUrl(value: string | undefined): URL {
  const field = 'url';
  if (!value) throw mistake(field, 'url is missing: pass it or set MOBVIBE_URL');
  const url = URL.parse(value);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw mistake(field, `url is ${JSON.stringify(value)}: must begin with http:// or https://`);
  }
  return url;
}

/** The key itself is never repeated. */
function checkedKey(value: string | undefined): string {
  const field = 'apiKey';
  if (!value) throw mistake(field, 'apiKey is missing: pass it or set MOBVIBE_API_KEY');
  if (!/^mvk_[A-Za-z0-9_-]+$/.test(value))
    throw mistake(field, 'apiKey is not well-formed: must begin with mvk_');
  return value;
}

const mistake = (field: string, detail: string) =>
  new MobVibeError('invalid_option', 'mistake', detail, { field });
