import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { machineView } from '../machines/view.ts';
import { parseMachineRequest } from '../rules/create.ts';
import { unsupported, versionMismatch } from '../rules/errors.ts';
import { matches, parseListFilter } from '../rules/filters.ts';
import { requireLease } from '../rules/leases.ts';
import { refusal } from '../rules/states.ts';
import type { MachineConfig } from '../wire.ts';
import { appOf, machineFor, machineOf, nonceOf, queryOf } from './request.ts';

const maxEventsAnswered = 50;

export function machineRoutes(server: FastifyInstance, core: Core): void {
  const machines = '/v1/apps/:app/machines';
  const one = `${machines}/:machine`;

  server.post(machines, { config: { action: 'machine.create' } }, async (request) => {
    const app = appOf(core, request);
    const wanted = parseMachineRequest(request.body, 'main.createMachineRequest');
    refuseUnserved(core, wanted.config);
    const { record } = await core.fleet.create(app, wanted);
    return { ...machineView(record), ...(record.lease ? { nonce: record.lease.nonce } : {}) };
  });

  server.get(machines, { config: { action: 'machine.list' } }, async (request) => {
    const { name } = appOf(core, request);
    const filter = parseListFilter(request.query as Record<string, string>);
    const records = core.faults.takeList(name) ?? core.fleet.ofApp(name).map(({ record }) => record);
    return records
      .filter((record) => record.app === name && matches(filter, record))
      .map((record) => machineView(record, { ...filter, checks: core.fleet.checksOf(record.id) }));
  });

  server.get(one, { config: { action: 'machine.get' } }, async (request) => {
    const machine = machineOf(core, request);
    return machineView(machine.record, { checks: machine.checks() });
  });

  server.post(one, { config: { action: 'machine.update' } }, async (request) => {
    const machine = machineFor('update', core, request);
    const update = parseMachineRequest(request.body, 'main.updateMachineRequest');
    refuseUnserved(core, update.config);
    const current = machine.record.instance_id;
    if (update.currentVersion && update.currentVersion !== current) {
      throw versionMismatch(update.currentVersion, current);
    }
    const reference = await core.fleet.imageRef(update.config.image);
    machineFor('update', core, request); // It may have moved on while the image was looked up.
    machine.replace(update.config, reference, update);
    return machineView(machine.record);
  });

  server.delete(one, { config: { action: 'machine.destroy' } }, async (request) => {
    const machine = machineOf(core, request);
    const { force, kill } = queryOf(request);
    requireLease(machine.record, nonceOf(request), core.clock.now());
    const refused = refusal('destroy', machine.record, force === 'true' || kill === 'true');
    if (refused) throw refused;
    // Fly accepts it for a machine on an unreachable host, too, and nothing happens until the host is back.
    if (machine.record.host_status === 'ok') machine.destroy();
    return { ok: true };
  });

  server.get(`${one}/events`, { config: { action: 'machine.events' } }, async (request) => {
    const limit = Math.min(Number(queryOf(request).limit) || 20, maxEventsAnswered);
    return machineOf(core, request).record.events.slice(0, limit);
  });

  server.get(
    `${one}/versions`,
    { config: { action: 'machine.versions' } },
    async (request) => machineOf(core, request).record.versions,
  );

  server.get(`${one}/ps`, { config: { action: 'machine.exec' } }, async () => {
    throw unsupported('ps');
  });
}

/** What would silently do nothing is refused. */
function refuseUnserved({ fleet: { engine } }: Core, config: MachineConfig): void {
  const can = { services: engine.serves, checks: engine.serves, files: engine.writesFiles };
  for (const field of ['services', 'checks', 'files'] as const) {
    if (!can[field] && Object.keys(config[field] ?? {}).length > 0)
      throw unsupported(`config.${field} on the ${engine.name} engine`);
  }
}
