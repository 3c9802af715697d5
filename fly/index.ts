/**
 * The Machines API client: the only code that speaks to Fly.
 *
 * Every method takes `{ signal?, timeoutMs? }` in its last argument, rejects with a `FlyError` and nothing
 * else, keeps to Fly's rate limits by itself, and is sent again only where that is safe (`retry.ts`,
 * `create.ts`). The token is in no error, event or inspected object.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { appSettingCalls } from './app-settings.ts';
import { appCalls } from './apps.ts';
import { type CallEvent, Caller } from './call.ts';
import { flyError } from './errors.ts';
import { authorizationHeader, createWire } from './http.ts';
import { machineRecordCalls } from './machine-records.ts';
import { machineCalls } from './machines.ts';
import type { Sleep } from './rate.ts';

export type { CallEvent, CallOptions } from './call.ts';
export { madeNothing } from './create.ts';
export * from './errors.ts';
export { guestProblem } from './guest.ts';
export type { ListMachinesOptions } from './look.ts';
export type { ChangeOptions } from './on-machine.ts';
export { CREATES, type RateLimit, type Sleep } from './rate.ts';
export type * from './types.ts';
export { durationSeconds } from './validate.ts';
export type { WaitOptions } from './wait.ts';

export interface FlyClientOptions {
  /** Organisation or deploy token, with or without its scheme. */
  token: string;
  /** Default `https://api.machines.dev`; inside Fly's private network `http://_api.internal:4280`. */
  baseUrl?: string | undefined;
  /** Milliseconds from any origin; must never go back. Default: Node's monotonic clock. */
  clock?: () => number;
  /** In [0, 1). Default `Math.random`. */
  random?: () => number;
  /** Real time by default; rejects when the signal is aborted. */
  sleep?: Sleep;
  /** Told of every try of every call, for logs and metrics. */
  onCall?: ((event: CallEvent) => void) | undefined;
}

export type FlyClient = ReturnType<typeof createFlyClient>;

export function createFlyClient({
  token,
  baseUrl = 'https://api.machines.dev',
  clock = () => performance.now(),
  random = Math.random,
  sleep = async (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
  onCall,
}: FlyClientOptions) {
  checkToken(token);
  const wire = createWire(checkBaseUrl(baseUrl), authorizationHeader(token));
  const caller = new Caller({ wire, token, clock, random, sleep, onCall });
  return {
    ...appCalls(caller),
    ...appSettingCalls(caller),
    ...machineCalls(caller),
    ...machineRecordCalls(caller),
    /** Closes idle connections. The client can still be used. */
    close: (): void => wire.close(),
  };
}

function checkToken(token: string): void {
  if (!/^[\x21-\x7e]+(?: [\x21-\x7e]+)?$/.test(token.trim())) {
    const detail = 'token must be an API token in printable ASCII (its value is not shown)';
    throw flyError('mistake', { call: 'createFlyClient', field: 'token', detail });
  }
}

function checkBaseUrl(baseUrl: string): string {
  const url = URL.parse(baseUrl);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.password !== '') {
    const detail =
      'baseUrl must be an http or https URL without a user name or password (its value is not shown)';
    throw flyError('mistake', { call: 'createFlyClient', field: 'baseUrl', detail });
  }
  return url.href.replace(/\/+$/, '');
}
