import { isCell, isFly, type Rule } from './resource.ts';

export interface SizeLimits {
  maxCpus: number;
  /** MiB. */
  maxMemoryMb: number;
  cpuKinds: string[];
}

const DIGEST = /@sha256:[0-9a-f]{64}$/;

/** A tag may be moved while the stack runs: then a restart is a deploy that nobody made. */
export const imageByDigest: Rule = (resource) => {
  if (!isFly('Machine', resource)) return [];
  const { image, env } = resource.props.config;
  const images = { 'config.image': image, 'config.env.MOBVIBE_SANDBOX_IMAGE': env?.MOBVIBE_SANDBOX_IMAGE };
  return Object.entries(images)
    .filter(([, value]) => value !== undefined && !DIGEST.test(value))
    .map(([field, value]) => `${field} is "${value}": an image is named by its digest, name@sha256:…`);
};

/** The machine itself, and the sandboxes that a controller makes unless a session asks for another size. */
export const sizeWithinLimit: Rule<SizeLimits> = (resource, limits) => {
  if (!isFly('Machine', resource)) return [];
  const { guest, env } = resource.props.config;
  return [
    ...tooLarge(limits, {
      'config.guest.cpu_kind': guest?.cpu_kind,
      'config.guest.cpus': guest?.cpus,
      'config.guest.memory_mb': guest?.memory_mb,
    }),
    ...tooLarge(limits, {
      'config.env.MOBVIBE_CPU_KIND': env?.MOBVIBE_CPU_KIND,
      'config.env.MOBVIBE_CPUS': env?.MOBVIBE_CPUS,
      'config.env.MOBVIBE_MEMORY_MB': env?.MOBVIBE_MEMORY_MB,
    }),
  ];
};

/** What is not said is Fly's default: the smallest machine. */
function tooLarge({ maxCpus, maxMemoryMb, cpuKinds }: SizeLimits, size: Record<string, unknown>): string[] {
  const [kind, cpus, memory] = Object.entries(size);
  return [
    ...(kind![1] === undefined || cpuKinds.includes(String(kind![1]))
      ? []
      : [`${kind![0]} is ${kind![1]}, and only ${cpuKinds.join(', ')} may be`]),
    ...above(cpus!, maxCpus),
    ...above(memory!, maxMemoryMb),
  ];
}

function above([field, value]: [string, unknown], most: number): string[] {
  // Also where it is no number at all.
  return value === undefined || Number(value) <= most
    ? []
    : [`${field} is ${value}, above the limit of ${most}`];
}

/** In a cell, a machine that has come to rest is destroyed and never started again: it would cost money and hold somebody's files. */
export const sandboxesEnd: Rule = (resource) => {
  if (!isFly('Machine', resource) || !isCell(resource.props.app)) return [];
  const { auto_destroy, restart } = resource.props.config;
  return [
    ...(auto_destroy === true ? [] : [`config.auto_destroy is ${auto_destroy}: a sandbox's is true`]),
    ...(restart?.policy === 'no'
      ? []
      : [`config.restart.policy is ${restart?.policy ?? "not set, so Fly's on-failure"}: a sandbox's is no`]),
  ];
};
