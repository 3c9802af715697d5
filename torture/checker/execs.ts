import type { Entry, ExecEntry, ObserveEntry, SessionHistory } from '../history.ts';
import type { Failure } from './failure.ts';
import type { Promises } from './promises.ts';

/** All that was asked under one id. */
interface Exec {
  id: string;
  tries: ExecEntry[];
  lines: string[];
  /** The try whose end was seen, the first such. */
  done?: ExecEntry;
}

/** Appended lines against the commands that were to append them: each once, in order, none missing. Pure. */
export function checkExecs(history: SessionHistory, promises: Promises): Failure[] {
  const { session, entries } = history;
  const execs = collect(entries);
  const failures: Failure[] = [];
  const fail = (kind: Failure['kind'], subject: string, detail: string) =>
    void failures.push({ kind, session, subject, detail });

  for (const { id, tries } of execs.values()) {
    const odd = tries.find(({ result }) => result !== undefined && isOdd(result));
    if (odd !== undefined) fail('odd_result', id, `Exec ${id}, which appends a line, ended "${odd.result}"`);
    const places = placesOf(tries);
    if (places.size > 1)
      fail('ran_twice', id, `Exec ${id} was started in the sandboxes ${[...places].join(' and ')}`);
  }
  const resolved = new Map<string, boolean>();
  for (const seen of entries.filter((entry) => entry.kind === 'observe')) {
    checkLook(seen, execs, promises, resolved, (kind, subject, detail) => {
      failures.push({ kind, session, subject, detail, look: seen.n });
    });
  }
  return failures;
}

function checkLook(
  look: ObserveEntry,
  execs: ReadonlyMap<string, Exec>,
  promises: Promises,
  /** By line, of what had ended in an earlier sandbox: whether it was there at a later look. */
  resolved: Map<string, boolean>,
  fail: (kind: Failure['kind'], subject: string, detail: string) => void,
): void {
  const where = `seen in sandbox ${look.incarnation} (entry ${look.n})`;
  const position = new Map<string, number>();
  const known = new Set([...execs.values()].flatMap(({ lines }) => lines));
  const twice = new Set<string>();
  look.seen.log.forEach((line, index) => {
    if (position.has(line)) {
      twice.add(idOf(line));
      fail('ran_twice', idOf(line), `Line "${line}" is in the log twice, ${where}`);
    } else if (line.startsWith('!'))
      fail(
        'ran_other_command',
        idOf(line),
        `Line "${line}": the id ran again with another command, ${where}`,
      );
    else if (!known.has(line)) fail('strange_line', idOf(line), `Nobody wrote "${line}", ${where}`);
    position.set(line, index);
  });
  for (const exec of execs.values()) {
    const there = exec.lines.map((line) => position.has(line));
    if (exec.tries.every(({ outcome, sent }) => outcome === 'refused' || sent > look.ended)) {
      if (exec.tries.some(({ sent }) => sent <= look.ended) && there.includes(true))
        fail('ran_refused', exec.id, `Exec ${exec.id} was refused, and its line is there, ${where}`);
      continue;
    }
    exec.lines.forEach((line, index) => {
      if (there[index]) return;
      if (exec.done !== undefined && promises.worth(exec.done, look.incarnation, look.sent) === 'must')
        fail(
          'lost_exec',
          exec.id,
          `Exec ${exec.id} ended "exited 0" in sandbox ${exec.done.incarnation}; its line "${line}" is missing, ${where}`,
        );
      else if (resolved.get(line))
        fail('lost_exec', exec.id, `Line "${line}" was restored once and is missing later, ${where}`);
    });
    for (const line of exec.lines) {
      const place = exec.done?.incarnation;
      if (place !== undefined && place < look.incarnation) resolved.set(line, position.has(line));
    }
  }
  // One that ran twice has no place.
  checkOrder(
    look,
    [...execs.values()].filter(({ tries, id }) => placesOf(tries).size <= 1 && !twice.has(id)),
    position,
    fail,
  );
}

/** The sandboxes in which it was seen to start. */
const placesOf = (tries: readonly ExecEntry[]) =>
  new Set(tries.flatMap(({ incarnation }) => incarnation ?? []));

/** An exec that had ended before another was sent has its line before it; where that one's line survived, so has this one's. */
function checkOrder(
  look: ObserveEntry,
  execs: Exec[],
  position: ReadonlyMap<string, number>,
  fail: (kind: Failure['kind'], subject: string, detail: string) => void,
): void {
  const where = `seen in sandbox ${look.incarnation} (entry ${look.n})`;
  const done = execs.filter((exec) => exec.done !== undefined);
  for (const first of done) {
    const last = position.get(first.lines.at(-1)!);
    for (const second of execs) {
      const sent = Math.min(...second.tries.map((one) => one.sent));
      if (first === second || sent <= first.done!.ended) continue;
      const begin = second.lines.map((line) => position.get(line)).find((at) => at !== undefined);
      if (begin === undefined) continue;
      const same = second.tries.some(({ incarnation }) => incarnation === first.done!.incarnation);
      if (last === undefined && same)
        fail('hole', first.id, `Exec ${second.id} came after ${first.id} and survived it, ${where}`);
      else if (last !== undefined && begin < last)
        fail(
          'wrong_order',
          first.id,
          `Exec ${second.id} was sent after ${first.id} had ended and is before it in the log, ${where}`,
        );
    }
  }
}

function collect(entries: readonly Entry[]): Map<string, Exec> {
  const execs = new Map<string, Exec>();
  for (const entry of entries) {
    if (entry.kind !== 'exec') continue;
    const exec = execs.get(entry.id) ?? { id: entry.id, tries: [], lines: [] };
    exec.tries.push(entry);
    if (exec.lines.length === 0) exec.lines = entry.lines;
    if (exec.done === undefined && isDone(entry)) exec.done = entry;
    execs.set(entry.id, exec);
  }
  return execs;
}

const isDone = ({ outcome, result }: ExecEntry) => outcome === 'ack' && result === 'exited 0';
const idOf = (line: string) => line.replace(/^!/, '').replace(/\..*$/, '');

/** An exit code that only the platform could have made. A shell passes on that its child was ended by a signal. */
function isOdd(result: string): boolean {
  const code = /^exited (\d+)$/.exec(result)?.[1];
  return code !== undefined && !['0', '129', '130', '137', '143'].includes(code);
}
