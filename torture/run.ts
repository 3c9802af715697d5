import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkSession } from './checker/check.ts';
import type { Failure } from './checker/failure.ts';
import { checkMachines } from './checker/machines.ts';
import { Actor } from './clients/actor.ts';
import { SessionClient } from './clients/session-client.ts';
import { schedule } from './faults/schedule.ts';
import { type FaultRecord, Storm } from './faults/storm.ts';
import { DISTANCE } from './faults/weather.ts';
import { History, type SessionHistory } from './history.ts';
import { pick, randomFrom } from './random.ts';
import { settle } from './settle.ts';
import type { SeenMachine } from './world/ledger.ts';
import { World } from './world/world.ts';

export interface TortureOptions {
  seed: number;
  /** How long faults strike; starting and settling come on top. */
  seconds: number;
  /** Each uses a session of its own. */
  clients: number;
  controllers: number;
  /** The folder with all logs and histories stays. */
  keep?: boolean;
  /** What is going on, for people. */
  say?: (line: string) => void;
}

export interface Report {
  seed: number;
  failures: Failure[];
  histories: SessionHistory[];
  faults: FaultRecord[];
  machines: SeenMachine[];
  folder: string;
  tookMs: number;
}

/** One run: a world, its clients, a storm, the calm after it, and the judgement. */
export async function torture(options: TortureOptions): Promise<Report> {
  const { seed, seconds, clients, controllers, keep = false, say = () => {} } = options;
  const began = performance.now();
  const random = randomFrom(seed);
  // Chance of its own for each, so that one's appetite does not change another's.
  const branch = () => randomFrom(Math.floor(random() * 2 ** 31));
  const faults = schedule(branch(), seconds);
  const world = await World.start({ controllers, random: branch() });
  world.flaps.add(DISTANCE.fly);
  world.database.add(DISTANCE.storage);
  const over = new AbortController();
  try {
    say(`up in ${world.stateDir}; ${faults.length} faults in ${seconds} s`);
    const folder = join(world.stateDir, 'history');
    mkdirSync(folder);
    const urls = world.controllers.map(({ url }) => url);
    const actors = Array.from({ length: clients }, (_, n) => {
      const history = new History(folder, `c${n + 1}`);
      const options = { apiKey: world.apiKey, urls, random: branch(), history, over: over.signal };
      return new Actor(new SessionClient(options), over.signal);
    });
    const choice = branch();
    const storm = new Storm(world, async () => {
      const { client } = pick(choice, actors);
      const events = await client.events();
      return events === undefined ? undefined : { session: client.id, events };
    });
    const working = Promise.all(actors.map((actor) => actor.run()));
    await storm.run(faults, seconds, over.signal);
    say(`${storm.records.length} faults are over; settling`);
    over.abort();
    await working;
    const { histories, failures } = await settle(world, actors);
    world.ledger.look();
    const { machines, living } = world.ledger;
    failures.push(...checkMachines(machines, living, histories));
    for (const history of histories) failures.push(...checkSession(history, machines));
    const report: Report = {
      ...{ seed, failures, histories, faults: storm.records, machines },
      ...{ folder: world.stateDir, tookMs: performance.now() - began },
    };
    writeFileSync(join(world.stateDir, 'report.json'), JSON.stringify(report));
    const left = await world.stop({ keep: keep || failures.length > 0 });
    for (const subject of left)
      failures.push({ kind: 'left_behind', subject, detail: `It outlived its world: ${subject}` });
    return report;
  } finally {
    over.abort();
    await world.stop({ keep: true });
  }
}
