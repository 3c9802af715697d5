const unitMs: Record<string, number> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
};

/** Milliseconds of a Go duration (`1m30s`, `500ms`); null for anything else. */
export function parseGoDuration(text: string): number | null {
  if (text === '0') return 0;
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) return null;
  let total = 0;
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * unitMs[unit!]!;
  }
  return total;
}

/** A duration of a machine's config: a Go duration, or a number of nanoseconds. Milliseconds; null when it is neither. */
export function parseConfigDuration(value: unknown): number | null {
  if (typeof value === 'number' && value >= 0) return value / 1e6;
  return typeof value === 'string' ? parseGoDuration(value) : null;
}

/** A duration of a query, where a bare number means seconds. Milliseconds; null when it is neither. */
export function parseQueryDuration(text: string): number | null {
  return /^\d+$/.test(text) ? Number(text) * 1_000 : parseGoDuration(text);
}
