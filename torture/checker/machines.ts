import type { SessionHistory } from '../history.ts';
import type { SeenMachine } from '../world/ledger.ts';
import type { Failure } from './failure.ts';
import { type Life, livesOf } from './lives.ts';

const SLACK_MS = 1_000;

/** A machine's time, by local Fly's journal. */
interface Span {
  machine: SeenMachine;
  from: number;
  /** Its exit, or infinity. */
  to: number;
}

/** Local Fly's machines against the API's events: none leaked, doubled or wrongly destroyed. `living`: what is not gone in the end. Pure. */
export function checkMachines(
  machines: readonly SeenMachine[],
  living: readonly SeenMachine[],
  histories: readonly Pick<SessionHistory, 'session' | 'events'>[],
): Failure[] {
  const failures: Failure[] = living.map(({ id, name, state }) => ({
    kind: 'machine_leaked',
    subject: id,
    detail: `Machine ${id} (${name}) is ${state} when every session is stopped`,
  }));
  const lives = new Map(
    histories.flatMap(({ events }) => livesOf(events).map((life) => [life.sandbox, life])),
  );
  failures.push(...doubled(machines, lives));
  for (const machine of machines) {
    const life = lives.get(machine.name);
    const asked = machine.events.findLast(({ type, source }) => type === 'destroy' && source === 'user');
    // A machine that never got into its row is nobody's.
    if (asked === undefined || life?.machine !== machine.id) continue;
    if ((life.leavingAt ?? Number.POSITIVE_INFINITY) <= asked.timestamp + SLACK_MS) continue;
    failures.push({
      ...{ kind: 'machine_wrongly_destroyed', session: sessionOf(machine), subject: machine.id },
      detail: `Machine ${machine.id} (${machine.name}) was destroyed at ${iso(asked.timestamp)}; its sandbox was to leave at ${life.leavingAt === undefined ? 'no time' : iso(life.leavingAt)}`,
    });
  }
  return failures;
}

function doubled(machines: readonly SeenMachine[], lives: ReadonlyMap<string, Life>): Failure[] {
  const failures: Failure[] = [];
  const spans = machines.flatMap((machine) => span(machine) ?? []).sort((a, b) => a.from - b.from);
  spans.forEach((older, index) => {
    for (const newer of spans.slice(index + 1)) {
      if (newer.from >= older.to || sessionOf(older.machine) !== sessionOf(newer.machine)) continue;
      // A machine that will not die may outlive its sandbox: the next one was planned when this one was on its way out.
      const left = lives.get(older.machine.name)?.leavingAt;
      const other = older.machine.name !== newer.machine.name;
      if (other && left !== undefined && left <= newer.from + SLACK_MS) continue;
      failures.push({
        ...{ kind: 'machine_doubled', session: sessionOf(older.machine), subject: newer.machine.id },
        detail: `Machines ${older.machine.id} (${older.machine.name}) and ${newer.machine.id} (${newer.machine.name}) ran at once from ${iso(newer.from)}`,
      });
    }
  });
  return failures;
}

function span(machine: SeenMachine): Span | undefined {
  const oldestFirst = machine.events.toReversed();
  const from = oldestFirst.find(({ type }) => type === 'start')?.timestamp;
  if (from === undefined) return undefined;
  const exit = oldestFirst.find(({ type, status }) => type === 'exit' || status === 'failed')?.timestamp;
  return { machine, from, to: exit ?? machine.destroyed_at ?? Number.POSITIVE_INFINITY };
}

const sessionOf = ({ name }: SeenMachine) => /^s-(.+)-\d+$/.exec(name)?.[1] ?? name;
const iso = (ms: number) => new Date(ms).toISOString();
