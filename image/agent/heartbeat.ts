import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const BEAT_EVERY_MS = 2_000;
/** Always as long, so that it is written in place: a full disk must not look like an agent that hangs. */
const DIGITS = 12;

/** Counts on in a file: init ends an agent whose count stands still. */
export function startHeartbeat(stateDir: string): void {
  const fd = openSync(join(stateDir, 'heartbeat'), 'w', 0o600);
  let count = 0;
  const beat = () => {
    count += 1;
    try {
      writeSync(fd, `${String(count).padStart(DIGITS, '0')}\n`, 0);
    } catch {
      // The next one may be written.
    }
  };
  beat();
  setInterval(beat, BEAT_EVERY_MS).unref();
}
