import type { CheckState } from '../engine.ts';
import type { MachineRecord } from '../wire.ts';

/** The machine as the API shows it; `summary` as a list with `summary=true` does. */
export function machineView(
  record: MachineRecord,
  { summary = false, checks = [] }: { summary?: boolean; checks?: CheckState[] } = {},
): Record<string, unknown> {
  const short = {
    id: record.id,
    name: record.name,
    state: record.state,
    region: record.region,
    image_ref: record.image_ref,
    instance_id: record.instance_id,
    version: record.instance_id,
    private_ip: record.private_ip,
    created_at: record.created_at,
    updated_at: record.updated_at,
    cordoned: record.cordoned,
  };
  if (summary) return short;
  // A host that cannot be reached cannot say what it runs: the config that is known counts as incomplete.
  const config =
    record.host_status === 'ok' ? { config: record.config } : { incomplete_config: record.config };
  return {
    ...short,
    ...config,
    events: record.events,
    // The Go clients can't read an empty time.
    checks: checks.map((check) => ({ ...check, updated_at: record.updated_at })),
    host_status: record.host_status,
  };
}

/** The machine as the list of a whole org shows it. */
export function orgMachineView(record: MachineRecord): Record<string, unknown> {
  const { guest, image, metadata } = record.config;
  return {
    id: record.id,
    name: record.name,
    app_name: record.app,
    state: record.state,
    region: record.region,
    instance_id: record.instance_id,
    version: record.instance_id,
    private_ip: record.private_ip,
    created_at: record.created_at,
    updated_at: record.updated_at,
    config: { guest, image, metadata },
  };
}
