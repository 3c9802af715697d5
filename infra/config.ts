import * as pulumi from '@pulumi/pulumi';

/**
 * What a stack is made of, read once from its configuration (`pulumi config set KEY VALUE`, `Pulumi.<stack>.yaml`). Every key has its
 * meaning, unit and default in docs/setup.md. A key with a bad value is a mistake that names the key, found before anything is changed.
 */
export interface StackConfig {
  readonly org: string;
  readonly region: string;
  readonly flyApiUrl: string;
  readonly flyApiUrlInside: string;
  /** Host of the registry that images are pushed to. */
  readonly registry: string;
  readonly images: ImagesConfig;
  readonly supabase: SupabaseConfig;
  readonly cells: number;
  /** The last so many of them take no new sandbox. */
  readonly closedCells: number;
  /** Made by hand; then none is made. */
  readonly cellToken: pulumi.Output<string> | undefined;
  readonly tokenExpiry: string;
  readonly tokenRotation: string;
  readonly sandbox: SandboxConfig;
  readonly controller: ControllerConfig;
  readonly protect: boolean;
  readonly smoke: boolean;
  /** A destroy goes on though files of sessions could not be saved. */
  readonly discardUnsaved: boolean;
  /** RFC 3339; handed on as an output, `never` where it is not set. */
  readonly expiresAt: string | undefined;
}

export interface ImagesConfig {
  /** `repository@sha256:…`: nothing is built. */
  readonly sandboxRef: string | undefined;
  readonly controllerRef: string | undefined;
  readonly sandboxBase: string;
  readonly controllerBase: string;
  readonly sandboxTarget: 'base' | 'expo';
}

export interface SupabaseConfig {
  readonly url: string;
  /** As the controller's machine reaches it. */
  readonly urlInside: string;
  readonly serviceRoleKey: pulumi.Output<string>;
  /** `postgresql://user:password@host:port/database` with the right to change the schema. */
  readonly dbUrl: pulumi.Output<string>;
}

export interface SandboxConfig {
  readonly cpuKind: 'shared' | 'performance';
  readonly cpus: number;
  readonly memoryMb: number;
  readonly maxAgeMinutes: number;
  /** A machine that reaches no controller for so long ends itself. */
  readonly orphanMinutes: number;
}

export interface ControllerConfig {
  readonly machines: number;
  readonly cpus: number;
  readonly memoryMb: number;
  /** Deadline of an exec or job that names none. */
  readonly execTimeoutMinutes: number;
  /** Jobs that one controller runs at the same time. */
  readonly jobsAtOnce: number;
  readonly public: boolean;
  readonly apiPort: number;
  readonly apiTls: boolean;
  /** `{app}` stands for the controller's app, `{address}` for its first public address. */
  readonly urlTemplate: string;
}

/** The controller sends a token for each with every request: more would make a header that a proxy may refuse. */
const MOST_CELLS = 10;

/** A mistake in the stack's configuration; shown without a stack trace. */
export class ConfigMistake extends pulumi.RunError {
  constructor(project: string, key: string, value: string | undefined, must: string) {
    super(
      value === undefined
        ? `${project}:${key} is not set: ${must}. Set it with: pulumi config set ${key} VALUE`
        : `${project}:${key} is "${value}": ${must}`,
    );
  }
}

export function readStackConfig(config = new pulumi.Config()): StackConfig {
  const mistake = (key: string, must: string, value = config.get(key)) =>
    new ConfigMistake(config.name, key, value, must);

  const text = (key: string, form: RegExp, must: string, fallback?: string): string => {
    const value = config.get(key) ?? fallback;
    if (value === undefined || !form.test(value)) throw mistake(key, must, value);
    return value;
  };
  const url = (key: string, fallback?: string): string => {
    const value = config.get(key) ?? fallback;
    const parsed = value === undefined ? null : URL.parse(value);
    if (parsed === null || !/^https?:$/.test(parsed.protocol) || parsed.username !== '') {
      throw mistake(key, 'an http or https URL without user name or password', value);
    }
    return parsed.href.replace(/\/+$/, '');
  };
  const integer = (key: string, least: number, most: number, fallback: number, step = 1): number => {
    const value = config.get(key) ?? String(fallback);
    const number = Number(value);
    if (!Number.isInteger(number) || number < least || number > most || number % step !== 0) {
      const steps = step === 1 ? '' : `, a multiple of ${step}`;
      throw mistake(key, `a whole number from ${least} to ${most}${steps}`, value);
    }
    return number;
  };
  const flag = (key: string, fallback: boolean): boolean => {
    const value = config.get(key) ?? String(fallback);
    if (value !== 'true' && value !== 'false') throw mistake(key, 'true or false', value);
    return value === 'true';
  };
  const oneOf = <T extends string>(key: string, values: readonly T[], fallback: T): T => {
    const value = config.get(key) ?? fallback;
    const found = values.find((known) => known === value);
    if (found === undefined) throw mistake(key, `one of ${values.join(', ')}`, value);
    return found;
  };
  const digest = (key: string): string | undefined => {
    if (config.get(key) === undefined) return undefined;
    return text(
      key,
      /^[^\s@]+@sha256:[0-9a-f]{64}$/,
      'an image by digest, name@sha256:…; a tag can change under a running stack',
    );
  };
  const secret = (key: string, must: string): pulumi.Output<string> => {
    const value = config.getSecret(key);
    if (value === undefined) throw new ConfigMistake(config.name, key, undefined, `${must} (with --secret)`);
    return value;
  };

  const supabaseUrl = url('supabaseUrl');
  const flyApiUrl = url('flyApiUrl', 'https://api.machines.dev');
  const cells = integer('cells', 1, MOST_CELLS, 1);
  const sandbox: SandboxConfig = {
    cpuKind: oneOf('sandboxCpuKind', ['shared', 'performance'], 'shared'),
    cpus: integer('sandboxCpus', 1, 16, 1),
    memoryMb: integer('sandboxMemoryMb', 256, 32_768, 1024, 256),
    maxAgeMinutes: integer('sandboxMaxAgeMinutes', 1, 10_080, 30),
    orphanMinutes: integer('sandboxOrphanMinutes', 1, 10_080, 1_440),
  };
  const expiresAt = config.get('expiresAt');
  if (expiresAt !== undefined && Number.isNaN(Date.parse(expiresAt))) {
    throw mistake('expiresAt', 'a time such as 2026-12-31T12:00:00Z');
  }
  return Object.freeze({
    org: text('flyOrg', /^[a-z0-9][a-z0-9-]*$/, 'the slug of your Fly organisation (fly orgs list)'),
    region: text('region', /^[a-z]{3}$/, 'a Fly region such as sjc (fly platform regions)', 'sjc'),
    flyApiUrl,
    flyApiUrlInside: url('flyApiUrlInside', flyApiUrl),
    registry: text('registry', /^[^\s/]+$/, 'the host of a registry, without a path', 'registry.fly.io'),
    images: {
      sandboxRef: digest('sandboxImageRef'),
      controllerRef: digest('controllerImageRef'),
      sandboxBase: text('sandboxBase', /^\S+$/, 'an image', 'node:24-bookworm-slim'),
      controllerBase: text('controllerBase', /^\S+$/, 'an image', 'node:24-bookworm-slim'),
      sandboxTarget: oneOf('sandboxTarget', ['base', 'expo'], 'expo'),
    },
    supabase: {
      url: supabaseUrl,
      urlInside: url('supabaseUrlInside', supabaseUrl),
      serviceRoleKey: secret('supabaseServiceRoleKey', 'the service role key of the Supabase project'),
      dbUrl: secret('supabaseDbUrl', 'the connection string of its database, direct or in session mode'),
    },
    cells,
    closedCells: integer('closedCells', 0, cells - 1, 0),
    cellToken: config.getSecret('cellToken'),
    tokenExpiry: text('tokenExpiry', /^[1-9][0-9]*h$/, 'whole hours such as 2160h', '2160h'),
    tokenRotation: text('tokenRotation', /^.*$/, 'any text', ''),
    sandbox,
    controller: {
      machines: integer('controllerMachines', 1, 10, 1),
      cpus: integer('controllerCpus', 1, 8, 1),
      memoryMb: integer('controllerMemoryMb', 256, 16_384, 512, 256),
      execTimeoutMinutes: integer('execTimeoutMinutes', 1, 1_440, 5),
      jobsAtOnce: integer('jobsAtOnce', 1, 1_000, 8),
      public: flag('public', true),
      apiPort: integer('apiPort', 1, 65_535, 443),
      apiTls: flag('apiTls', true),
      urlTemplate: text(
        'urlTemplate',
        /^https?:\/\/\S+$/,
        'a URL with {app} or {address}',
        'https://{app}.fly.dev',
      ),
    },
    protect: flag('protect', false),
    smoke: flag('smoke', true),
    discardUnsaved: flag('discardUnsaved', false),
    expiresAt,
  });
}
