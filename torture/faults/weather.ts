import type { Rule } from '../world/http-gate.ts';
import type { FaultKind } from './schedule.ts';

/** Signed uploads, which agents send. */
const UPLOAD = /^PUT \/storage\/v1\/object\/upload\/sign\//;
const STORAGE = /\/storage\/v1\//;
const REST = /\/rest\/v1\//;
const ANY = /^/;

const storage = (statusCode: number, message: string) => ({
  status: statusCode,
  body: { statusCode: String(statusCode), error: message, message },
});

/** In the words of PostgREST when it has no connection, or no schema yet. */
const UNCONNECTED = {
  status: 503,
  body: { code: 'PGRST001', message: 'Could not connect with the database', details: null, hint: null },
};
const NO_SCHEMA = {
  status: 503,
  body: { code: 'PGRST002', message: 'Could not query the database for the schema cache. Retrying.' },
};
const GATEWAY = {
  status: 502,
  body: { message: 'An invalid response was received from the upstream server' },
};

/** No fault, but how far away they are: a destroy takes seconds, an upload its time. Much can happen meanwhile. */
export const DISTANCE = {
  fly: { match: /^DELETE .*\/machines\//, chance: 0.6, effect: { kind: 'delay', ms: 1_500 } },
  storage: { match: UPLOAD, chance: 0.5, effect: { kind: 'delay', ms: 500 } },
} as const satisfies Record<string, Rule>;

/** Rules for the gate before Supabase, for as long as the fault lasts. Pure. */
export function databaseRules(kind: FaultKind, choice: number): Rule[] {
  switch (kind) {
    case 'database_refuses':
      return choose(choice, [
        { match: REST, chance: 0.6, effect: { kind: 'answer', ...UNCONNECTED } },
        { match: REST, chance: 0.6, effect: { kind: 'answer', ...NO_SCHEMA } },
        { match: REST, chance: 0.5, effect: { kind: 'refuse' } },
      ]);
    case 'database_loses_answers':
      return choose(choice, [
        { match: REST, chance: 0.3, effect: { kind: 'lost' } },
        { match: REST, chance: 0.3, effect: { kind: 'done', ...GATEWAY } },
        { match: REST, chance: 0.3, effect: { kind: 'cut' } },
      ]);
    case 'database_slow':
      return choose(choice, [
        { match: REST, chance: 0.8, effect: { kind: 'delay', ms: 400 } },
        { match: REST, chance: 0.3, effect: { kind: 'delay', ms: 3_000 } },
      ]);
    case 'storage_full':
      return choose(choice, [
        { match: UPLOAD, chance: 1, effect: { kind: 'answer', ...storage(402, 'Quota exceeded') } },
        {
          match: UPLOAD,
          chance: 1,
          effect: { kind: 'answer', ...storage(413, 'The object exceeded the maximum allowed size') },
        },
      ]);
    case 'storage_refuses':
      return choose(choice, [
        { match: STORAGE, chance: 0.7, effect: { kind: 'answer', ...storage(500, 'Internal Server Error') } },
        { match: STORAGE, chance: 0.7, effect: { kind: 'answer', ...storage(429, 'Too many requests') } },
        { match: STORAGE, chance: 0.7, effect: { kind: 'refuse' } },
      ]);
    case 'storage_hangs':
      return [{ match: STORAGE, chance: 0.6, effect: { kind: 'hang' } }];
    case 'storage_breaks_off':
      return choose(choice, [
        { match: UPLOAD, chance: 0.7, effect: { kind: 'cut' } },
        { match: UPLOAD, chance: 0.7, effect: { kind: 'lost' } },
        { match: STORAGE, chance: 0.4, effect: { kind: 'cut' } },
      ]);
    default:
      return [];
  }
}

/** The same for the gate before the Machines API. Pure. */
export function flyRules(kind: FaultKind, choice: number): Rule[] {
  const error = (status: number, text: string) => ({ status, body: { error: text } });
  switch (kind) {
    case 'fly_refuses':
      return choose(choice, [
        { match: ANY, chance: 0.6, effect: { kind: 'answer', ...error(429, 'rate limit exceeded') } },
        { match: ANY, chance: 0.6, effect: { kind: 'answer', ...error(503, 'service unavailable') } },
        { match: ANY, chance: 0.6, effect: { kind: 'refuse' } },
      ]);
    case 'fly_loses_answers':
      return choose(choice, [
        { match: ANY, chance: 0.5, effect: { kind: 'lost' } },
        { match: ANY, chance: 0.5, effect: { kind: 'done', ...error(502, 'bad gateway') } },
        { match: ANY, chance: 0.5, effect: { kind: 'delay', ms: 2_000 } },
      ]);
    default:
      return [];
  }
}

function choose(choice: number, rules: Rule[]): Rule[] {
  return [rules[Math.floor(choice * rules.length)]!];
}
