/** One measured line: what, how much, in which unit, and the aim where there is one. */
export interface Figure {
  name: string;
  value: number;
  unit: string;
  aim?: { atMost: number } | { atLeast: number };
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Nearest rank. */
export function quantile(values: readonly number[], q: number): number {
  if (values.length === 0) throw new RangeError('no values were measured');
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))]!;
}

export function met(figure: Figure): boolean | undefined {
  if (!figure.aim) return undefined;
  return 'atMost' in figure.aim ? figure.value <= figure.aim.atMost : figure.value >= figure.aim.atLeast;
}

/** A table for people. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const aim = !figure.aim
      ? ''
      : 'atMost' in figure.aim
        ? `≤ ${figure.aim.atMost}`
        : `≥ ${figure.aim.atLeast}`;
    const verdict = { true: 'met', false: 'missed', undefined: '' }[String(met(figure)) as 'true'];
    return [figure.name, format(figure.value), figure.unit, aim, verdict];
  });
  const width = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map(([name, value, unit, aim, verdict]) =>
      `${name!.padEnd(width[0]!)}  ${value!.padStart(width[1]!)} ${unit!.padEnd(width[2]!)}  ${aim!.padEnd(width[3]!)}  ${verdict}`.trimEnd(),
    )
    .join('\n');
}

function format(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
