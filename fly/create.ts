import type { Caller, CallOptions, CallSpec } from './call.ts';
import { FlyError, flyError } from './errors.ts';
import { getMachine, listMachines } from './look.ts';
import { path } from './path.ts';
import { machine } from './replies.ts';
import { mayRetry } from './retry.ts';
import { timeoutOf } from './time-limit.ts';
import type { CreateMachineRequest, Machine } from './types.ts';
import { checkApp, checkCreate } from './validate.ts';

const TRIES = 4;
const TIMEOUT_MS = 60_000;
const ATTEMPT_TIMEOUT_MS = 30_000;
/** flyctl's pause before it looks for a machine whose create was not answered; doubled with every try. */
const SETTLE_MS = 500;

/**
 * Creates the machine of this name, or finds it: at the end there is one machine with the name, however the
 * answers were lost.
 *
 * Fly has no idempotency key and a lost answer can hide a machine that costs money, so a create is never just
 * sent again. The key is the name, unique among the app's live machines: after a try of unknown outcome we
 * look for the name in the list and adopt what has it; only when nothing has it is the same name tried again,
 * and then Fly's 409 "unique machine name violation" stands guard against a list that lags behind: the
 * machine that it names is adopted. (Fly docs, "machines/api"; flyctl's bluegreen deploy does the same by
 * metadata.)
 *
 * Once one try was in doubt, a later clear refusal clears nothing up: the first may have worked, and be the
 * very reason of the refusal. The result is then `unknown_outcome`, and the caller looks for the name again
 * later.
 *
 * An adopted machine can be in any state but `destroyed`. It was made by an earlier call with this name:
 * names must not be reused for other settings.
 */
export async function createMachine(
  caller: Caller,
  app: string,
  request: CreateMachineRequest,
  options: CallOptions,
): Promise<Machine> {
  const name = 'createMachine';
  checkApp(name, app);
  checkCreate(name, request);
  const ends = caller.clock() + timeoutOf(name, options.timeoutMs, TIMEOUT_MS);
  const inTime = (): CallOptions => ({
    signal: options.signal,
    timeoutMs: Math.max(1, ends - caller.clock()),
  });
  const post: CallSpec<Machine> = {
    name,
    effect: 'once',
    method: 'POST',
    path: path`/v1/apps/${app}/machines`,
    target: `${app}/${request.name}`,
    limitKey: `${name} ${app}`,
    body: request,
    attemptTimeoutMs: ATTEMPT_TIMEOUT_MS,
    read: machine,
  };

  let doubt: FlyError | undefined;
  for (let attempt = 1; ; attempt++) {
    const result = await caller.call(post, inTime()).catch(onlyFlyError);
    if (!(result instanceof FlyError)) return result;
    const exists = result.reason === 'unique_name';
    if (exists || result.kind === 'unknown_outcome') doubt = result;
    if (doubt === undefined) throw result;
    // Its turn does not come in time: nothing was sent since the last look, which another would only repeat.
    if (attempt > 1 && neverHadItsTurn(result)) throw inDoubt(doubt, result);

    const pauseMs = exists ? 0 : Math.round(SETTLE_MS * 2 ** (attempt - 1) * (1 + caller.random()));
    if (options.signal?.aborted || caller.clock() + pauseMs >= ends) throw inDoubt(doubt, result);
    await caller.pause(pauseMs, options.signal);
    const found = await findByName(caller, app, request.name, doubt.existingMachineId, inTime);
    if (found !== undefined) return found;
    const isRefused = result !== doubt && !mayRetry('once', result);
    if (isRefused || attempt >= TRIES) throw inDoubt(doubt, result);
  }
}

/**
 * What a create that failed so says of all its tries: none can have made a machine, and there is nothing to
 * look for.
 */
export function madeNothing(error: FlyError): boolean {
  switch (error.kind) {
    case 'mistake':
    case 'not_found':
    case 'capacity':
    case 'quota':
    case 'rate':
    case 'auth':
    case 'platform':
      return true;
    case 'conflict':
    case 'precondition':
    case 'unknown_outcome':
      return false;
  }
}

/** The live machine of this name; undefined when it was not found, which is no proof that there is none. */
async function findByName(
  caller: Caller,
  app: string,
  name: string,
  knownId: string | undefined,
  inTime: () => CallOptions,
): Promise<Machine | undefined> {
  const isIt = (found: Machine): boolean => found.name === name && found.state !== 'destroyed';
  if (knownId !== undefined) {
    const known = await getMachine(caller, app, knownId, inTime()).catch(notSeen);
    if (known !== undefined && isIt(known)) return known;
  }
  const all = await listMachines(caller, app, { ...inTime(), summary: true }).catch(notSeen);
  const listed = all?.find(isIt);
  if (listed === undefined) return undefined;
  // The summary has no config; another of Fly's servers may not know the machine yet, and then the summary
  // has to do.
  const whole = (await getMachine(caller, app, listed.id, inTime()).catch(notSeen)) ?? listed;
  return isIt(whole) ? whole : undefined;
}

function neverHadItsTurn(error: FlyError): boolean {
  return error.kind === 'rate' && error.status === undefined;
}

function onlyFlyError(error: unknown): FlyError {
  if (error instanceof FlyError) return error;
  throw error;
}

/** A look that failed tells nothing, and its failure is not what the caller asked about. */
function notSeen(error: unknown): undefined {
  onlyFlyError(error);
}

function inDoubt(doubt: FlyError, lastWord: FlyError): FlyError {
  const detail = doubt === lastWord ? doubt.detail : `${doubt.detail}; then: ${lastWord.detail}`;
  return flyError('unknown_outcome', { ...doubt, detail });
}
