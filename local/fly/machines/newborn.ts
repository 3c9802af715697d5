import type { Clock } from '../clock.ts';
import type { Ids } from '../ids.ts';
import type { MachineRequest } from '../rules/create.ts';
import { placeInRegion } from '../rules/regions.ts';
import { sha256Hex } from '../rules/tokens.ts';
import type { AppRecord, ImageRef, MachineRecord } from '../wire.ts';
import { applyChange } from './history.ts';

const adjectives = ['aged', 'bold', 'calm', 'dark', 'green', 'lively', 'misty', 'proud', 'quiet', 'small'];
const nouns = ['bird', 'cloud', 'field', 'lake', 'moon', 'river', 'shape', 'smoke', 'thunder', 'wave'];

/** The record of a machine that was just accepted, with its one event. */
export function newMachineRecord(
  app: AppRecord,
  request: MachineRequest,
  image_ref: ImageRef,
  tools: { clock: Clock; ids: Ids },
): MachineRecord {
  const id = tools.ids.machine();
  const version = tools.ids.ulid();
  const now = new Date(tools.clock.now()).toISOString();
  const record: MachineRecord = {
    id,
    app: app.name,
    name: request.name ?? generatedName(id),
    region: placeInRegion(request.region),
    state: 'created',
    prepared: request.skipLaunch,
    instance_id: version,
    image_ref,
    private_ip: privateAddress(app.network, id),
    created_at: now,
    updated_at: now,
    config: request.config,
    events: [],
    versions: [{ version, user_config: request.config }],
    cordoned: request.cordoned,
    skip_secrets: request.skipSecrets,
    host_status: 'ok',
    restarts: [],
  };
  applyChange(record, { event: { type: 'launch', status: 'created', source: 'user' } }, tools);
  return record;
}

function generatedName(id: string): string {
  const number = Number.parseInt(id.slice(0, 8), 16);
  const adjective = adjectives[number % adjectives.length];
  const noun = nouns[Math.floor(number / 10) % nouns.length];
  return `${adjective}-${noun}-${String(number % 10_000).padStart(4, '0')}`;
}

/** An address that looks like 6PN: the network's bits first. Nothing listens on it. */
function privateAddress(network: string, id: string): string {
  const net = sha256Hex(network);
  return `fdaa:0:${net.slice(0, 4)}:a7b:${id.slice(0, 4)}:${id.slice(4, 8)}:${id.slice(8, 12)}:2`;
}
