import { setTimeout as delay } from 'node:timers/promises';
import type { JobRow } from '../store/rows.ts';
import type { ApiStore } from './deps.ts';
import { presentJob } from './present.ts';
import type { JobLogEvent } from './schemas.ts';

const PAGE = 200;
/** The job may run in another controller, so its output is looked up in the database: soon at first, then more rarely. */
const POLL_MS = { first: 100, most: 1_000 };
const PING_MS = 15_000;

/** The lines of `GET /jobs/{id}/logs`: what was written, and the job itself as the last one. */
export async function* jobLogLines(
  store: Pick<ApiStore, 'getJob' | 'listJobOutput'>,
  job: JobRow,
  { follow, clock }: { follow: boolean; clock: () => number },
): AsyncGenerator<string> {
  let seq = 0;
  let latest = job;
  let pause = POLL_MS.first;
  let spokeAt = clock();
  while (true) {
    // Whether it has ended is known before the output is read, so nothing that was written last is missed.
    const last = !follow || latest.ended_at !== null;
    const rows = await store.listJobOutput(job.id, { after: seq, limit: PAGE });
    for (const row of rows) {
      seq = row.seq;
      yield line({
        type: row.stream,
        offset: row.byte_offset,
        data: row.data,
        ...(row.encoding === 'base64' ? { encoding: 'base64' as const } : {}),
      });
    }
    if (rows.length > 0) {
      spokeAt = clock();
      pause = POLL_MS.first;
    }
    if (rows.length === PAGE) continue;
    if (last) break;
    if (clock() - spokeAt >= PING_MS) {
      spokeAt = clock();
      yield line({ type: 'ping' });
    }
    await delay(pause);
    pause = Math.min(pause * 2, POLL_MS.most);
    latest = await store.getJob(job.id);
  }
  yield line({ type: 'end', job: presentJob(latest) });
}

const line = (event: JobLogEvent) => `${JSON.stringify(event)}\n`;
