import type { Guest } from './types.ts';

const SHARED_CPUS = [1, 2, 4, 6, 8];
const MOST_PERFORMANCE_CPUS = 16;

/** What does not fit Fly's sizes, the first field at fault; undefined where all fits. Fly docs, "machines/machine-sizing". */
export function guestProblem(
  guest: Guest,
): { field: 'cpu_kind' | 'cpus' | 'memory_mb'; expected: string } | undefined {
  const { cpu_kind: kind = 'shared', cpus = 1, memory_mb: memory } = guest;
  if (kind !== 'shared' && kind !== 'performance')
    return { field: 'cpu_kind', expected: 'shared or performance' };
  const cpusFit =
    kind === 'shared'
      ? SHARED_CPUS.includes(cpus)
      : Number.isInteger(cpus) && cpus >= 1 && cpus <= MOST_PERFORMANCE_CPUS;
  if (!cpusFit) {
    const allowed =
      kind === 'shared'
        ? `one of ${SHARED_CPUS.join(', ')}`
        : `a whole number from 1 to ${MOST_PERFORMANCE_CPUS}`;
    return { field: 'cpus', expected: `${allowed} with ${kind} CPUs` };
  }
  if (memory === undefined) return undefined;
  const [step, min, max] = kind === 'shared' ? [256, 256, 2048 * cpus] : [2048, 2048 * cpus, 8192 * cpus];
  if (Number.isInteger(memory) && memory % step === 0 && memory >= min && memory <= max) return undefined;
  return {
    field: 'memory_mb',
    expected: `a multiple of ${step} from ${min} to ${max} with ${cpus} ${kind} CPUs`,
  };
}
