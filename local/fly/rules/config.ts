import type { Guest, MachineConfig, RestartPolicy } from '../wire.ts';
import { parseConfigDuration } from './durations.ts';
import { invalidArgument, unsupported } from './errors.ts';
import {
  isObject,
  type JsonObject,
  optionalBoolean,
  optionalInteger,
  optionalObject,
  optionalString,
  optionalStringMap,
  optionalStrings,
} from './json.ts';
import { parseChecks, parseServices } from './services.ts';
import { parseSignal } from './signals.ts';

const maxStopTimeoutMs = 300_000;

/** Settings that would silently do nothing here, so that they are refused instead. */
const notHere = [
  'cache_drive',
  'containers',
  'mounts',
  'processes',
  'schedule',
  'standbys',
  'statics',
  'volumes',
];

/**
 * A machine's config as it is kept and answered: defaults filled in, unknown fields dropped (Fly does both). Throws 400 for a wrong
 * value and 501 for a known setting that local Fly cannot honour.
 */
export function parseConfig(value: unknown): MachineConfig {
  if (!isObject(value)) throw invalidArgument('config is required');
  refuseUnsupported(value);
  const image = optionalString(value, 'image');
  if (!image) throw invalidArgument('config.image is required');
  return dropUndefined({
    env: optionalStringMap(value, 'env'),
    init: parseInit(optionalObject(value, 'init') ?? {}),
    guest: parseGuest(value),
    metadata: optionalStringMap(value, 'metadata'),
    restart: parseRestart(optionalObject(value, 'restart')),
    auto_destroy: optionalBoolean(value, 'auto_destroy'),
    stop_config: parseStopConfig(optionalObject(value, 'stop_config')),
    files: parseFiles(value),
    dns: optionalObject(value, 'dns') ?? {},
    services: parseServices(value),
    checks: parseChecks(value),
    image,
  });
}

function refuseUnsupported(config: JsonObject): void {
  for (const field of notHere) {
    const value = config[field];
    const isEmpty = !value || (typeof value === 'object' && Object.keys(value).length === 0);
    if (!isEmpty) throw unsupported(`config.${field}`);
  }
  const rootfs = optionalObject(config, 'rootfs');
  if (rootfs && ![undefined, null, 0, 'never'].includes(rootfs.persist as never)) {
    throw unsupported(`config.rootfs.persist "${rootfs.persist}"`);
  }
}

function parseInit(init: JsonObject): MachineConfig['init'] {
  return dropUndefined({
    exec: optionalStrings(init, 'exec'),
    entrypoint: optionalStrings(init, 'entrypoint'),
    cmd: optionalStrings(init, 'cmd'),
    tty: optionalBoolean(init, 'tty'),
    swap_size_mb: optionalInteger(init, 'swap_size_mb'),
  });
}

/** What boots instead of the image's own entry point or command: `exec` beats everything, and an entry point the image's command. */
export function bootOverride({ exec, entrypoint, cmd }: MachineConfig['init']): {
  exec?: string[];
  cmd?: string[];
} {
  if (exec?.length) return { exec };
  if (entrypoint?.length) return { exec: [...entrypoint, ...(cmd ?? [])] };
  return cmd?.length ? { cmd } : {};
}

function parseFiles(config: JsonObject): MachineConfig['files'] {
  const files = config.files ?? [];
  if (!Array.isArray(files)) throw invalidArgument('config.files is not an array');
  const parsed = files.map((file, index) => parseFile(file, `config.files[${index}]`));
  return parsed.length > 0 ? parsed : undefined;
}

function parseFile(file: unknown, at: string) {
  if (!isObject(file)) throw invalidArgument(`${at} is not an object`);
  if (file.image_config) throw unsupported(`${at}.image_config`);
  const guest_path = optionalString(file, 'guest_path');
  if (!guest_path?.startsWith('/')) {
    throw invalidArgument(`${at}.guest_path: ${JSON.stringify(guest_path)} is not an absolute path`);
  }
  const raw_value = optionalString(file, 'raw_value');
  const secret_name = optionalString(file, 'secret_name');
  if (raw_value !== undefined && secret_name) {
    throw invalidArgument(`${at}: raw_value and secret_name exclude each other`);
  }
  return dropUndefined({ guest_path, raw_value, secret_name, mode: optionalInteger(file, 'mode') });
}

const memoryPerCpuMb = {
  shared: { step: 256, least: 256, most: 2_048 },
  performance: { step: 2_048, least: 2_048, most: 8_192 },
};
const cpuCounts = { shared: [1, 2, 4, 6, 8], performance: [1, 2, 4, 6, 8, 10, 12, 14, 16] };

/** `guest`, or its older form `size`. Limits: Fly docs, machines/machine-sizing. */
function parseGuest(config: JsonObject): Guest {
  const preset = optionalString(config, 'size');
  const guest = optionalObject(config, 'guest') ?? (preset ? guestOfPreset(preset) : {});
  if (guest.gpus || guest.gpu_kind) throw unsupported('config.guest.gpus');
  const kind = optionalString(guest, 'cpu_kind') ?? 'shared';
  if (kind !== 'shared' && kind !== 'performance') {
    throw invalidArgument(`config.guest.cpu_kind: "${kind}" is not one of shared, performance`);
  }
  const cpus = optionalInteger(guest, 'cpus') ?? 1;
  if (!cpuCounts[kind].includes(cpus)) {
    throw invalidArgument(
      `config.guest.cpus: ${cpus} is not one of ${cpuCounts[kind].join(', ')} for ${kind}`,
    );
  }
  const { step, least, most } = memoryPerCpuMb[kind];
  const memory = optionalInteger(guest, 'memory_mb') ?? least * cpus;
  // The smallest shared machines may have less than 256 MB for each of several CPUs, never less than 256 MB in all.
  if (memory % step !== 0 || memory < least || memory > most * cpus) {
    throw invalidArgument(
      `config.guest.memory_mb: ${memory} is not a multiple of ${step} from ${least} to ${most * cpus} for ${cpus} ${kind} CPU(s)`,
    );
  }
  return { cpu_kind: kind, cpus, memory_mb: memory };
}

function guestOfPreset(preset: string): JsonObject {
  const [, kind, count] = /^(shared-cpu|performance)-(\d+)x$/.exec(preset) ?? [];
  if (!kind) throw invalidArgument(`config.size: "${preset}" is not known`);
  return { cpu_kind: kind === 'performance' ? 'performance' : 'shared', cpus: Number(count) };
}

function parseRestart(restart: JsonObject | undefined): MachineConfig['restart'] {
  if (!restart) return undefined;
  const policy = optionalString(restart, 'policy');
  if (policy !== undefined && !['no', 'always', 'on-failure'].includes(policy)) {
    throw invalidArgument(`config.restart.policy: "${policy}" is not one of no, always, on-failure`);
  }
  return dropUndefined({
    policy: policy as RestartPolicy | undefined,
    max_retries: optionalInteger(restart, 'max_retries'),
  });
}

function parseStopConfig(stop: JsonObject | undefined): MachineConfig['stop_config'] {
  if (!stop) return undefined;
  const timeout = stop.timeout as string | number | null | undefined;
  if (timeout !== undefined && timeout !== null) {
    const ms = parseConfigDuration(timeout);
    if (ms === null || ms > maxStopTimeoutMs) {
      throw invalidArgument(
        `config.stop_config.timeout: ${JSON.stringify(timeout)} is not a duration up to 300s`,
      );
    }
  }
  const signal = optionalString(stop, 'signal');
  return dropUndefined({
    signal: signal && parseSignal(signal, 'config.stop_config.signal', 'stop'),
    timeout: timeout ?? undefined,
  });
}

function dropUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}
