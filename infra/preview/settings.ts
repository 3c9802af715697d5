/** What a preview is configured with: the template `Pulumi.preview.yaml`, then the environment, then `--set`. */

/** Config keys whose values are secret, and the variables they come from: never a command line, which everyone on the computer can read. */
export const SECRETS = {
  supabaseServiceRoleKey: 'SUPABASE_SERVICE_ROLE_KEY',
  supabaseDbUrl: 'SUPABASE_DB_URL',
} as const;
const PLAIN = { supabaseUrl: 'SUPABASE_URL', flyOrg: 'FLY_ORG' } as const;
/** Set by `up` itself. */
const OURS = 'expiresAt';

export type Environment = Record<string, string | undefined>;
/** Without the project's name before each key. */
export type Settings = Record<string, string>;

/** `template`: as it stands in the file, keys `<project>:<key>`. `set`: `key=value`. */
export function plainSettings(
  project: string,
  template: Record<string, unknown>,
  env: Environment,
  set: readonly string[],
): Settings {
  const settings: Settings = {};
  for (const [name, value] of Object.entries(template)) {
    const key = name.startsWith(`${project}:`) ? name.slice(project.length + 1) : undefined;
    if (key === undefined || typeof value === 'object' || key in SECRETS || key === OURS) {
      throw new Error(
        `Pulumi.preview.yaml: "${name}" can't be in a template: plain settings of ${project} alone`,
      );
    }
    settings[key] = String(value);
  }
  for (const [key, variable] of Object.entries(PLAIN)) {
    const value = env[variable];
    if (value) settings[key] = value;
  }
  for (const pair of set) {
    const [, key, value] = /^([A-Za-z]\w*)=(.*)$/s.exec(pair) ?? [];
    if (key === undefined || value === undefined) throw new Error(`--set is "${pair}": key=value`);
    if (key in SECRETS) {
      throw new Error(
        `--set ${key}: a secret; give it by the variable ${SECRETS[key as keyof typeof SECRETS]}`,
      );
    }
    if (key === OURS) throw new Error(`--set ${key}: use --ttl-hours`);
    settings[key] = value;
  }
  return settings;
}

/** Throws a sentence that names every variable that is missing. */
export function secretSettings(env: Environment): Record<keyof typeof SECRETS, string> {
  requireVariables(env, Object.values(SECRETS));
  return {
    supabaseServiceRoleKey: env[SECRETS.supabaseServiceRoleKey]!,
    supabaseDbUrl: env[SECRETS.supabaseDbUrl]!,
  };
}

export function requireVariables(env: Environment, names: readonly string[]): void {
  const missing = names.filter((name) => !env[name]);
  if (missing.length > 0) throw new Error(`not set: ${missing.join(', ')}`);
}

/** Throws with the place where it is to be set. */
export function required(settings: Settings, key: keyof typeof PLAIN): string {
  const value = settings[key];
  if (value) return value;
  throw new Error(`${key} is not set: in Pulumi.preview.yaml, by ${PLAIN[key]}, or by --set ${key}=…`);
}
