import type { Failure } from './checker/failure.ts';
import type { Actor } from './clients/actor.ts';
import type { SessionHistory } from './history.ts';
import { within } from './pause.ts';
import type { World } from './world/world.ts';

/** With nothing wrong any more, each of these has to come about within so long. */
const PATIENCE_MS = 90_000;
/** A machine whose create was never answered is left alone for two minutes, as one that may still be wanted. */
const MACHINES_MS = 160_000;
const AT_ONCE = 3;

/**
 * The end of a run, when all faults are over: each session is stopped, opened again and looked at, its jobs are waited for, and stopped at
 * last. What does not come about is a failure.
 */
export async function settle(
  world: World,
  actors: readonly Actor[],
): Promise<{ histories: SessionHistory[]; failures: Failure[] }> {
  const failures: Failure[] = [];
  const histories: SessionHistory[] = [];
  await eachAtOnce([...actors], async (actor) => {
    const { client } = actor;
    const stuck = (what: string) =>
      void failures.push({ kind: 'stuck', session: client.id, subject: client.id, detail: what });
    const exists = client.history.entries.some(
      ({ kind, outcome }) => kind === 'open' && outcome !== 'refused',
    );
    if (exists) await settleOne(actor, stuck, failures);
    const events = await within(PATIENCE_MS, () => client.events());
    if (events === undefined) stuck('Its events could not be read');
    histories.push({ session: client.id, entries: client.history.entries, events: events ?? [] });
  });
  await within(MACHINES_MS, async () => {
    world.ledger.look();
    return world.ledger.living.length === 0;
  });
  return { histories, failures };
}

async function settleOne(actor: Actor, stuck: (what: string) => void, failures: Failure[]): Promise<void> {
  const { client } = actor;
  const found = await within(PATIENCE_MS, async () => {
    const { json, status } = await client.ask({ method: 'GET', path: `/v1/sessions/${client.id}` });
    return status === 404 ? 'none' : status === 200 && String(json.status);
  });
  // Its create was never answered, and never came.
  if (found === 'none') return;
  if (!(await stopped(actor))) stuck('With all faults over it could not be stopped');
  if (!(await opened(actor))) return stuck('With all faults over it could not be opened');
  if ((await within(PATIENCE_MS, () => client.observe(true))) === undefined)
    return stuck('With all faults over its files could not be looked at');
  await actor.work.repeat();
  const jobsEnded = await within(PATIENCE_MS, async () => {
    await actor.work.askJobs();
    return [...actor.work.jobs.values()].every((state) => state === 'ended');
  });
  if (!jobsEnded) {
    for (const [id, state] of actor.work.jobs) {
      if (state === 'ended') continue;
      failures.push({
        ...{ kind: 'job_never_ended', session: client.id, subject: id },
        detail: `Job ${id} was taken and has not ended ${PATIENCE_MS / 1000} s after the last fault`,
      });
    }
  }
  // What those jobs wrote has to outlive a stop as well.
  if (!(await stopped(actor)) || !(await opened(actor)))
    return stuck('It could not be stopped and opened again');
  if ((await within(PATIENCE_MS, () => client.observe(true))) === undefined)
    stuck('No second look at its files');
  if (!(await stopped(actor))) stuck('It could not be stopped at last');
}

async function stopped({ client }: Actor): Promise<boolean> {
  const done = await within(PATIENCE_MS, async () => {
    const { json } = await client.stop(20_000);
    return json.status === 'stopped' || json.status === 'failed';
  });
  return done ?? false;
}

async function opened({ client }: Actor): Promise<boolean> {
  return (
    (await within(PATIENCE_MS, async () => (await client.open('open', 20_000)).json.status === 'ready')) ??
    false
  );
}

async function eachAtOnce<T>(waiting: T[], work: (one: T) => Promise<void>): Promise<void> {
  const next = async () => {
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) await work(one);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
}
