import type { MachineConfig } from '../wire.ts';
import { parseConfig } from './config.ts';
import { invalidArgument } from './errors.ts';
import { bodyObject, optionalBoolean, optionalInteger, optionalString } from './json.ts';

/** The body of a create or an update. */
export interface MachineRequest {
  name?: string;
  /** As given: a code, an alias or a list. */
  region?: string;
  config: MachineConfig;
  skipLaunch: boolean;
  cordoned: boolean;
  skipSecrets: boolean;
  minSecretsVersion?: number;
  leaseTtlSeconds?: number;
  /** Of an update: the version that it was made for. */
  currentVersion?: string;
}

export function parseMachineRequest(body: unknown, goType: string): MachineRequest {
  const request = bodyObject(body, goType);
  return {
    name: parseName(optionalString(request, 'name')),
    region: optionalString(request, 'region'),
    config: parseConfig(request.config),
    skipLaunch: optionalBoolean(request, 'skip_launch') ?? false,
    cordoned: optionalBoolean(request, 'skip_service_registration') ?? false,
    skipSecrets: optionalBoolean(request, 'skip_secrets') ?? false,
    minSecretsVersion: optionalInteger(request, 'min_secrets_version'),
    leaseTtlSeconds: optionalInteger(request, 'lease_ttl'),
    currentVersion: optionalString(request, 'current_version'),
  };
}

function parseName(name: string | undefined): string | undefined {
  if (name === undefined || /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/.test(name)) return name;
  throw invalidArgument(
    `name: ${JSON.stringify(name)} is not 1 to 63 letters, digits, dashes and underscores`,
  );
}
