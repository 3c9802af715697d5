import type { IncomingMessage } from 'node:http';
import { header, NotSupported } from '../http.ts';
import { RestError } from './errors.ts';

/** What the headers of a REST request ask for. */
export interface Wishes {
  /** `.single()`: exactly one row, as an object. */
  single: boolean;
  /** `count: 'exact'`. */
  count: boolean;
  /** `prefer: return=minimal`. */
  minimal: boolean;
}

/** `return=representation` is what a read does anyway; supabase-js sends it with `.rpc().select()`. */
const SUPPORTED = ['', 'count=exact', 'return=minimal', 'return=representation'];

const SINGLE = 'application/vnd.pgrst.object+json';

/** Reads `accept`, `prefer` and the profile headers; refuses what would change the answer in a way not supported here. */
export function wishesOf(message: IncomingMessage): Wishes {
  for (const name of ['accept-profile', 'content-profile']) {
    const schema = header(message, name);
    if (schema !== undefined && schema !== 'public') {
      throw new RestError(406, 'PGRST106', `Invalid schema: ${schema}`, {
        hint: 'Only the following schemas are exposed: public',
      });
    }
  }
  if (message.headers.range !== undefined)
    throw new NotSupported('the header Range on rows: use limit and offset');

  const accept = header(message, 'accept')?.trim() ?? '*/*';
  const single = accept === SINGLE;
  if (!single && !/(^|,)\s*(\*\/\*|application\/(json|\*))\s*(;|,|$)/.test(accept)) {
    throw new NotSupported(`the header accept: ${accept}`);
  }

  const preferences = (header(message, 'prefer') ?? '').split(',').map((item) => item.trim());
  const refused = preferences.find((item) => !SUPPORTED.includes(item));
  if (refused) throw new NotSupported(`the header prefer: ${refused}`);
  return {
    single,
    count: preferences.includes('count=exact'),
    minimal: preferences.includes('return=minimal'),
  };
}
