import type { SessionEvent } from '../../client/index.ts';
import { pause } from '../pause.ts';
import type { Part } from '../world/part.ts';
import { type Process, signal } from '../world/processes.ts';
import type { World } from '../world/world.ts';
import type { Fault } from './schedule.ts';
import { databaseRules, flyRules } from './weather.ts';

/** What is known of the saved versions: an old one may be damaged without harm. */
export type OldVersions = () => Promise<{ session: string; events: SessionEvent[] } | undefined>;

/** One that has begun. */
export interface Struck {
  /** What exactly was hit; undefined when there was nothing to hit. */
  target: string | undefined;
  /** Ends it; the part is on its way up again when this resolves. */
  heal(): Promise<void>;
}

const NOTHING: Struck = { target: undefined, heal: async () => {} };

/** Carries one fault out on the world. */
export async function strike(world: World, fault: Fault, old: OldVersions): Promise<Struck> {
  const { kind, choice } = fault;
  const controller = world.controllers[Math.floor(choice * world.controllers.length)]!;
  switch (kind) {
    case 'controller_killed':
      return killed(controller.part);
    case 'controller_frozen':
      return frozen(controller.part.name, controller.part.process);
    case 'supabase_killed':
      return killed(world.supabase);
    case 'supabase_frozen':
      return frozen('local Supabase', world.supabase.process);
    case 'fly_killed':
      return killed(world.fly);
    case 'fly_frozen':
      return frozen('local Fly', world.fly.process);
    case 'postgres_killed': {
      const [postmaster] = world.postgres();
      if (postmaster === undefined) return NOTHING;
      signal(postmaster, 'SIGKILL');
      // Local Supabase ends when its Postgres has.
      return { target: 'Postgres', heal: () => back(world.supabase) };
    }
    case 'postgres_frozen':
      return frozen('Postgres', ...world.postgres());
    case 'agent_killed': {
      const agent = one([...world.agentProcesses()], choice);
      if (agent === undefined) return NOTHING;
      signal(agent[1], 'SIGKILL');
      return { ...NOTHING, target: agent[0] };
    }
    case 'agent_frozen': {
      const agent = one([...world.agentProcesses()], choice);
      return agent === undefined ? NOTHING : frozen(agent[0], agent[1]);
    }
    case 'machine_died': {
      const machine = one(
        world.ledger.living.filter(({ state }) => state === 'started'),
        choice,
      );
      if (machine === undefined) return NOTHING;
      const died = await world.flyControl('POST', `/local/machines/${machine.id}/die`, {});
      return died ? { ...NOTHING, target: machine.name } : NOTHING;
    }
    case 'fly_full':
      return flyFault(world, { kind: 'capacity', reason: 'none', times: 3 });
    case 'fly_lists_nothing':
      return flyFault(world, { kind: 'empty_list', times: 4 });
    case 'machines_stuck':
      return flyFault(world, { kind: 'stuck', state: choice < 0.5 ? 'created' : 'starting' });
    case 'machines_undying': {
      const error = { status: 500, error: 'failed to destroy machine: host is unreachable' };
      return flyFault(world, { kind: 'answer', action: 'machine.destroy', ...error, times: 1_000 });
    }
    case 'fly_down':
      await world.flaps.down();
      return { target: 'Machines API', heal: () => world.flaps.up() };
    case 'database_down':
      await world.database.down();
      return { target: 'Supabase', heal: () => world.database.up() };
    case 'agents_cut_off':
      world.agents.cut();
      return { target: 'all agents', heal: async () => world.agents.mend() };
    case 'controllers_cut_off':
      controller.peers.cut();
      return { target: `others from ${controller.part.name}`, heal: async () => controller.peers.mend() };
    case 'old_version_damaged':
      return damage(world, await old(), choice);
    default: {
      const over = [
        ...databaseRules(kind, choice).map((rule) => world.database.add(rule)),
        ...flyRules(kind, choice).map((rule) => world.flaps.add(rule)),
      ];
      return {
        target: 'requests',
        heal: async () => {
          for (const end of over) end();
        },
      };
    }
  }
}

async function killed(part: Part<{ ready: true }>): Promise<Struck> {
  await part.kill();
  return { target: part.name, heal: () => back(part) };
}

/** It may need another part that is down as well: that is not waited for. */
async function back(part: Part<{ ready: true }>): Promise<void> {
  void part.revive();
}

function frozen(target: string, ...processes: (Process | undefined)[]): Struck {
  const stopped = processes.filter((one) => one !== undefined && signal(one, 'SIGSTOP')) as Process[];
  if (stopped.length === 0) return NOTHING;
  return {
    target,
    heal: async () => {
      for (const process of stopped) signal(process, 'SIGCONT');
    },
  };
}

async function flyFault(world: World, fault: object): Promise<Struck> {
  const added = await world.flyControl('POST', '/local/faults', fault);
  if (!added) return NOTHING;
  const heal = async () => {
    // All of them; others of this kind that are under way end with it. Local Fly may stand still just now.
    for (let tries = 0; tries < 20; tries++) {
      if (await world.flyControl('DELETE', '/local/faults')) return;
      await pause(500);
    }
  };
  return { target: 'local Fly', heal };
}

/** Opening the newest version needs no older manifest: nobody may notice. */
async function damage(
  world: World,
  found: Awaited<ReturnType<OldVersions>>,
  choice: number,
): Promise<Struck> {
  const manifests = (found?.events ?? []).flatMap(({ data }) => {
    const { manifest } = data as { manifest?: { sha256: string; version: number } };
    return manifest === undefined ? [] : [manifest];
  });
  const newest = manifests.at(-1);
  // Two versions may be the same bytes.
  const old = one(manifests.filter(({ sha256 }) => sha256 !== newest?.sha256).slice(0, -2), choice);
  if (old === undefined || found === undefined) return NOTHING;
  const key = `s/${found.session}/m/${old.sha256}`;
  const bucket = world.storage().from('workspaces');
  const answer =
    choice < 0.5
      ? await bucket.remove([key])
      : await bucket.upload(key, Buffer.from('damaged'), { upsert: true });
  return answer.error === null
    ? { ...NOTHING, target: `version ${old.version} of ${found.session}` }
    : NOTHING;
}

function one<T>(from: readonly T[], choice: number): T | undefined {
  return from[Math.floor(choice * from.length)];
}
