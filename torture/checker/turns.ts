import type { Entry, SessionHistory } from '../history.ts';
import type { SeenMachine } from '../world/ledger.ts';
import type { Failure } from './failure.ts';
import type { Life } from './lives.ts';
import type { Promises } from './promises.ts';

/** The database's clock and local Fly's are this host's; an event carries the time at which its transaction began. */
const SLACK_MS = 1_000;

/** Stops, and what the API says of their end. Pure. */
export function checkTurns(
  { session, entries, events }: SessionHistory,
  promises: Promises,
  machines: readonly SeenMachine[],
): Failure[] {
  const failures: Failure[] = [];
  const fail = (kind: Failure['kind'], subject: string, detail: string) =>
    failures.push({ kind, session, subject, detail });

  for (const entry of entries) {
    if (entry.kind !== 'stop' || entry.outcome !== 'ack' || entry.status !== 'stopped') continue;
    const life = entry.incarnation === undefined ? undefined : promises.life(entry.incarnation);
    const loss = life?.loss;
    if (loss !== undefined && !wasDiscarded(entries, life!))
      fail('stop_lied', life!.sandbox, `A stop answered "stopped" (entry ${entry.n}): ${loss.code}`);
  }

  const asked = entries.filter(({ kind }) => kind === 'stop');
  for (const event of events) {
    if (event.kind !== 'session.stopping') continue;
    const at = Date.parse(event.at);
    if (!asked.some(({ sent }) => sent <= at + SLACK_MS) || !event.actor.startsWith('api:'))
      fail('unasked_stop', event.sandbox ?? '', `${event.actor} stopped it at ${event.at}: ${event.reason}`);
  }

  for (const life of promises.lives) {
    if (life.loss === undefined || life.readyAt === undefined) continue;
    const { code, at } = life.loss;
    const subject = life.sandbox;
    const wanted = wasDiscarded(entries, life);
    if (code === 'save_failed' || code === 'discarded') {
      if (!wanted) fail('gave_up_save', subject, `The only copy was given up (${code}), and nobody said so`);
    } else if (code === 'machine_lost') {
      const machine = machines.find(({ id }) => id === life.machine);
      if (machine !== undefined && !hadEnded(machine, at + SLACK_MS))
        fail('false_loss', subject, `Machine ${machine.id} was called lost and ran (${machine.state})`);
    } else fail('false_loss', subject, `A sandbox that had been ready ended with ${code}`);
  }
  return failures;
}

/** A caller gave up what could not be saved of this very sandbox. */
function wasDiscarded(entries: readonly Entry[], { readyAt = 0, loss }: Life): boolean {
  return entries.some(
    (entry) =>
      entry.kind === 'stop' && entry.discard && entry.ended >= readyAt && entry.sent <= loss!.at + SLACK_MS,
  );
}

function hadEnded({ events }: SeenMachine, by: number): boolean {
  return events.some(({ type, status, timestamp }) => {
    const ended = type === 'exit' || status === 'failed' || status === 'destroyed';
    return ended && timestamp <= by;
  });
}
