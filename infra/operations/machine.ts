import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import {
  durationSeconds,
  type FlyClient,
  FlyError,
  type Machine,
  type MachineConfig,
} from '../../fly/index.ts';
import { compare, type Difference } from './compare.ts';
import { type AtFly, flyAt, isInDoubt, unlessMissing } from './fly.ts';
import { HalfMade } from './half-made.ts';
import { type Seen, waitUntil } from './wait.ts';

export interface MachineInputs extends AtFly {
  /** Name of the app. A change replaces the machine. */
  app: string;
  /** Unique in the app. A change replaces the machine. */
  name: string;
  /** Code such as `ams`. A change replaces the machine. */
  region: string;
  /**
   * The whole of Fly's configuration; a change is made in place, and Fly stops the old version as the machine's
   * `stop_config` says before it starts the new one.
   */
  config: MachineConfig;
  /**
   * Default true: it always runs, and found stopped it is started, so its services must not stop it (`autostop`).
   * False: it is never started, and found running it is stopped; for one that only has to be there. A change replaces
   * the machine.
   */
  launch?: boolean;
  /** `version` of the app's secrets that it must see at least; a change restarts it. Default: any. */
  minSecretsVersion?: number;
  /** How long it may take to be started with its checks passing, or to be at rest. Default 180 s. */
  startTimeoutSeconds: number;
}

export interface MachineOutputs extends MachineInputs {
  machineId: string;
  /** Of the version that was made last. */
  instanceId: string;
  privateIp: string;
  state: string;
}

/** Metadata key that tells our machines, and which configuration they were given. */
const MARK = 'mobvibe_config';
/** Longer than the update under it may take; what a lost answer leaves behind is over after that. */
const LEASE_S = 75;
const LEASE_WAIT_MS = 90_000;
const UPDATE_MS = 60_000;
/** Fly's own, where the configuration has none (Fly docs, "machines/api/machines-resource"). */
const DEFAULT_GRACE = '5s';
const STOP_MARGIN_MS = 10_000;
const DESTROYED_MS = 120_000;
/** A machine that failed to boot stays so. */
const FAILED = ['failed', 'launch_failed'];
/** Of a machine that is not to run. */
const AT_REST = ['created', 'stopped'];
const ENDED = [...FAILED, 'destroying', 'destroyed', 'replaced', 'migrated'];

export function diff(olds: MachineOutputs, news: MachineInputs): Difference {
  const asked = compare(olds, news, {
    replace: ['app', 'name', 'region', 'launch'],
    update: ['endpoint', 'config', 'minSecretsVersion', 'startTimeoutSeconds'],
    deleteBeforeReplace: true,
  });
  if (FAILED.includes(olds.state)) return { ...asked, changes: true, replaces: [...asked.replaces, 'state'] };
  return { ...asked, changes: asked.changes || !statesOf(olds).includes(olds.state) };
}

/** In which it is as it should be. */
function statesOf({ launch = true }: Pick<MachineInputs, 'launch'>): string[] {
  return launch ? ['started'] : AT_REST;
}

/** A machine of this name that we made is adopted and brought to the configuration; any other is refused. */
export async function create(inputs: MachineInputs): Promise<{ id: string; outs: MachineOutputs }> {
  const { endpoint, app, name, region } = inputs;
  const fly = flyAt(endpoint);
  const left = await leftBehind(fly, inputs);
  if (left !== undefined) {
    if (markOf(left) !== fingerprint(inputs)) await configure(fly, left.id, inputs);
    return { id: left.id, outs: await untilReady(fly, left, inputs) };
  }
  const made = await fly.createMachine(app, { name, region, ...requestOf(inputs) });
  return { id: made.id, outs: await untilReady(fly, made, inputs) };
}

/** A version that we did not make shows as drift of `config`, a machine that does not run, or should not, as one of `state`. */
export async function read(
  id: string,
  props: MachineOutputs,
): Promise<{ id?: string; props?: MachineOutputs }> {
  const machine = await unlessMissing(flyAt(props.endpoint).getMachine(props.app, id));
  if (machine === undefined || machine.state === 'destroyed') return {};
  const isOurs = machine.instance_id === props.instanceId;
  const config = isOurs ? props.config : (machine.config ?? props.config);
  return { id, props: outputs({ ...props, config }, machine) };
}

/** After an update that failed half-way the configuration is there already, and only the rest is done. */
export async function update(
  id: string,
  olds: MachineOutputs,
  news: MachineInputs,
): Promise<{ outs: MachineOutputs }> {
  const fly = flyAt(news.endpoint);
  const isSame =
    isDeepStrictEqual(olds.config, news.config) && olds.minSecretsVersion === news.minSecretsVersion;
  if (!isSame) await configure(fly, id, news);
  return { outs: await untilReady(fly, await fly.getMachine(news.app, id), news) };
}

/** Stops it in its own time first, as far as that works; then it is destroyed whatever it does. */
export async function remove(
  id: string,
  { endpoint, app, config, launch = true }: MachineOutputs,
  timeoutMs = DESTROYED_MS,
): Promise<void> {
  const fly = flyAt(endpoint);
  try {
    if (launch) await stop(fly, app, id, config);
  } catch (error) {
    if (!(error instanceof FlyError)) throw error;
  }
  await waitUntil(`machine ${app}/${id}: not destroyed`, timeoutMs, async () => {
    try {
      await unlessMissing(fly.destroyMachine(app, id, { force: true }));
      return { done: true };
    } catch (error) {
      return whileLeased(error);
    }
  });
  await unlessMissing(fly.waitForState(app, id, 'destroyed', { timeoutMs }));
}

async function stop(fly: FlyClient, app: string, id: string, config: MachineConfig): Promise<void> {
  await fly.stopMachine(app, id);
  const graceMs = durationSeconds(config.stop_config?.timeout ?? DEFAULT_GRACE) * 1000;
  await fly.waitForState(app, id, ['stopped', 'destroyed'], { timeoutMs: graceMs + STOP_MARGIN_MS });
}

/** The machine that a lost answer or a killed run left. Throws for a machine of the name that is not ours. */
async function leftBehind(fly: FlyClient, { app, name }: MachineInputs): Promise<Machine | undefined> {
  const found = (await fly.listMachines(app)).find((machine) => machine.name === name);
  if (found === undefined || found.state === 'destroyed') return undefined;
  if (found.state === 'destroying') {
    await fly.waitForState(app, found.id, 'destroyed');
    return undefined;
  }
  if (markOf(found) === undefined) {
    throw new Error(`name: the app ${app} has a machine ${name} (${found.id}) that was not made by Pulumi`);
  }
  return found;
}

/** Nobody else changes it meanwhile: a second Pulumi, or flyctl, is kept out by the lease. */
async function configure(fly: FlyClient, id: string, inputs: MachineInputs): Promise<void> {
  const { app } = inputs;
  const description = 'mobvibe: configuration by Pulumi';
  const { nonce } = await waitUntil(`machine ${app}/${id}: no lease`, LEASE_WAIT_MS, async () => {
    try {
      return { done: await fly.acquireLease(app, id, { ttlSeconds: LEASE_S, description }) };
    } catch (error) {
      if (isInDoubt(error)) return { waiting: (error as FlyError).detail };
      return whileLeased(error);
    }
  });
  try {
    await fly.updateMachine(app, id, requestOf(inputs), { nonce, timeoutMs: UPDATE_MS });
  } catch (error) {
    if (!isInDoubt(error) || markOf(await fly.getMachine(app, id)) !== fingerprint(inputs)) throw error;
  } finally {
    // It ends by itself soon.
    await fly.releaseLease(app, id, nonce).catch(() => {});
  }
}

/** The lease of somebody else passes; any other error is thrown. */
function whileLeased(error: unknown): { waiting: string } {
  if (error instanceof FlyError && error.reason === 'lease_held') return { waiting: error.detail };
  throw error;
}

/** From here on the machine is there, so a failure keeps it in the state. */
async function untilReady(fly: FlyClient, machine: Machine, inputs: MachineInputs): Promise<MachineOutputs> {
  const { app, config, launch = true, startTimeoutSeconds } = inputs;
  const { id } = machine;
  let latest = machine;
  try {
    if (launch && ['stopped', 'suspended'].includes(latest.state)) await fly.startMachine(app, id);
    if (!launch && ['started', 'suspended'].includes(latest.state)) await stop(fly, app, id, config);
    return await waitUntil(
      `machine ${app}/${id}: not ${launch ? 'running' : 'at rest'}`,
      startTimeoutSeconds * 1000,
      async (): Promise<Seen<MachineOutputs>> => {
        latest = await fly.getMachine(app, id);
        const { ready, why } = readiness(latest, inputs);
        if (ready) return { done: outputs(inputs, latest) };
        if (ENDED.includes(latest.state)) throw new Error(`machine ${app}/${id} will not run: ${why}`);
        return { waiting: why };
      },
    );
  } catch (error) {
    throw new HalfMade(id, outputs(inputs, latest), error);
  }
}

/** Whether it is in the state that it should be in, and every check that it was given passes where it runs; pure. */
export function readiness(
  machine: Machine,
  { config, launch = true }: Pick<MachineInputs, 'config' | 'launch'>,
): { ready: boolean; why: string } {
  if (!statesOf({ launch }).includes(machine.state)) {
    return { ready: false, why: `its state is ${machine.state}` };
  }
  if (!launch) return { ready: true, why: 'it is at rest' };
  const services = (config.services ?? []).flatMap(({ checks = [] }) => checks);
  const expected = Object.keys(config.checks ?? {}).length + services.length;
  const checks = machine.checks ?? [];
  const failing = checks.find(({ status }) => status !== 'passing');
  if (failing !== undefined) {
    const said = failing.output ? `: ${failing.output.slice(0, 200)}` : '';
    return { ready: false, why: `its check ${failing.name} is ${failing.status}${said}` };
  }
  const ready = checks.length >= expected;
  return { ready, why: ready ? 'it runs' : `${checks.length} of its ${expected} checks have run` };
}

function outputs(inputs: MachineInputs, machine: Machine): MachineOutputs {
  return {
    ...inputs,
    machineId: machine.id,
    instanceId: machine.instance_id ?? '',
    privateIp: machine.private_ip ?? '',
    state: machine.state,
  };
}

/** Of Fly, for a create as for an update. */
function requestOf(inputs: MachineInputs) {
  const { launch = true, minSecretsVersion } = inputs;
  return {
    config: marked(inputs),
    ...(!launch && { skip_launch: true }),
    ...(minSecretsVersion && { min_secrets_version: minSecretsVersion }),
  };
}

function marked(inputs: MachineInputs): MachineConfig {
  const { config } = inputs;
  return { ...config, metadata: { ...config.metadata, [MARK]: fingerprint(inputs) } };
}

/** Fly returns a configuration with fields added and others spelled differently, but metadata as they were. */
function fingerprint({ config, minSecretsVersion = 0 }: MachineInputs): string {
  const text = JSON.stringify([sorted(config), minSecretsVersion]);
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(sorted);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return entries.map(([key, item]) => [key, sorted(item)]);
}

function markOf({ config, incomplete_config }: Machine): string | undefined {
  return (config ?? incomplete_config)?.metadata?.[MARK];
}
