import type { AppRecord, MachineRecord } from '../wire.ts';

/** What a machine finds in its environment (Fly docs, machines/runtime-environment). */
export function machineEnvironment(machine: MachineRecord, app: AppRecord): Record<string, string> {
  const secrets = machine.skip_secrets
    ? {}
    : Object.fromEntries(Object.entries(app.secrets.values).map(([name, { value }]) => [name, value]));
  return {
    ...machine.config.env,
    ...secrets,
    FLY_APP_NAME: machine.app,
    FLY_MACHINE_ID: machine.id,
    FLY_ALLOC_ID: machine.id,
    FLY_REGION: machine.region,
    FLY_PRIVATE_IP: machine.private_ip,
    FLY_IMAGE_REF: machine.config.image,
    FLY_MACHINE_VERSION: machine.instance_id,
    FLY_VM_MEMORY_MB: String(machine.config.guest.memory_mb),
    ...(machine.config.metadata?.fly_process_group
      ? { FLY_PROCESS_GROUP: machine.config.metadata.fly_process_group }
      : {}),
  };
}
