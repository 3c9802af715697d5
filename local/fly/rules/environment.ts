import type { MachineFile } from '../engine.ts';
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

/** The files that a machine's config asks for. Throws for a secret that the app does not have: such a machine cannot boot. */
export function machineFiles({ config }: MachineRecord, app: AppRecord): MachineFile[] {
  return (config.files ?? []).map(({ guest_path, raw_value = '', secret_name, mode }) => {
    const secret = secret_name === undefined ? undefined : app.secrets.values[secret_name];
    if (secret_name !== undefined && !secret) {
      throw new Error(`config.files: ${guest_path} is to hold the secret "${secret_name}", which is not set`);
    }
    return { path: guest_path, content: Buffer.from(secret?.value ?? raw_value, 'base64'), mode };
  });
}
