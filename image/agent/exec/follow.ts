import type { ExecEvent } from '../../../controller/agents/wire.ts';
import type { Lines } from '../http/lines.ts';
import { encode, incompleteTail } from './encode.ts';
import type { ExecEnd } from './journal.ts';
import type { Cursor, Spool } from './spool.ts';

const PIECE_BYTES = 128 << 10;
const PING_EVERY_MS = 15_000;

type Stream = Pick<Spool, 'start' | 'end' | 'closed' | 'attach' | 'detach' | 'read'>;

/** An exec as its readers see it. */
export interface Followed {
  readonly id: string;
  readonly pid: number;
  readonly startedAt: number;
  readonly stdout: Stream;
  readonly stderr: Stream;
  readonly now: () => number;
  readonly end: ExecEnd | undefined;
  /** Its readers of now. */
  readonly following: Set<Promise<unknown>>;
  changed(): Promise<void>;
  notify(): void;
  relieve(): void;
}

interface Offsets {
  stdout: number;
  stderr: number;
}

/** Sends an exec's output from these offsets on, and its end. Any number of readers may do so at any time. */
export async function follow(exec: Followed, lines: Lines, from: Offsets): Promise<void> {
  const following = tell(exec, lines, from);
  exec.following.add(following);
  try {
    await following;
  } finally {
    exec.following.delete(following);
  }
}

async function tell(exec: Followed, lines: Lines, from: Offsets): Promise<void> {
  const send = (event: ExecEvent): boolean => lines.write(event);
  const readers = (['stdout', 'stderr'] as const).map((name) => {
    const spool = exec[name];
    return { name, spool, cursor: spool.attach(from[name], exec.now()) };
  });
  const quiet = setInterval(() => send({ type: 'ping' }), PING_EVERY_MS);
  const gone = () => exec.notify();
  lines.onClose(gone);
  try {
    send({ type: 'start', id: exec.id, pid: exec.pid, started_at: exec.startedAt });
    while (!lines.closed) {
      let moved = false;
      for (const { name, spool, cursor } of readers) {
        const event = await nextEvent(name, spool, cursor);
        if (event === undefined) continue;
        moved = true;
        const room = send(event);
        quiet.refresh();
        if (!room) await lines.drained();
        cursor.movedAt = exec.now();
        exec.relieve();
      }
      if (moved) continue;
      if (exec.end !== undefined) {
        lines.end(exec.end);
        return;
      }
      await exec.changed();
    }
  } finally {
    clearInterval(quiet);
    for (const { spool, cursor } of readers) spool.detach(cursor);
    exec.relieve();
  }
}

/** What comes next for this reader; nothing where it has all there is. Moves the cursor. */
async function nextEvent(
  type: 'stdout' | 'stderr',
  spool: Stream,
  cursor: Cursor,
): Promise<ExecEvent | undefined> {
  for (;;) {
    if (cursor.position < spool.start) {
      const gap: ExecEvent = { type: 'gap', stream: type, from: cursor.position, to: spool.start };
      cursor.position = spool.start;
      return gap;
    }
    if (cursor.position >= spool.end) return undefined;
    const bytes = await spool.read(cursor.position, PIECE_BYTES);
    if (bytes === undefined) continue;
    const atEnd = spool.closed && cursor.position + bytes.length === spool.end;
    const whole = atEnd ? bytes : bytes.subarray(0, bytes.length - incompleteTail(bytes));
    if (whole.length === 0) {
      // Only the beginning of a character: the rest has yet to come, or lies in the next segment.
      if (cursor.position + bytes.length === spool.end) return undefined;
      const more = await spool.read(cursor.position + bytes.length, PIECE_BYTES);
      if (more === undefined) continue;
      const joined = Buffer.concat([bytes, more]);
      return piece(type, cursor, joined.subarray(0, joined.length - incompleteTail(joined) || joined.length));
    }
    return piece(type, cursor, whole);
  }
}

function piece(type: 'stdout' | 'stderr', cursor: Cursor, bytes: Buffer): ExecEvent {
  const event: ExecEvent = { type, offset: cursor.position, ...encode(bytes) };
  cursor.position += bytes.length;
  return event;
}
