import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import type { SaveLedger } from '../files/ledger.ts';
import type { SaveReport } from '../files/workspace.ts';

export interface SaveMetrics {
  saved(report: SaveReport): void;
  /** `saveIntervalMs`: of the settings; `clock`: Unix milliseconds. */
  watchSaves(ledger: SaveLedger, saveIntervalMs: number, clock: () => number): void;
}

/** What Prometheus is told of saves. */
export function saveMetrics(registry: Registry): SaveMetrics {
  const registers = [registry];
  const saves = new Counter({
    name: 'mobvibe_saves_total',
    help: 'Saves by outcome: saved, unchanged (nothing was to be saved), or the code of the failure',
    labelNames: ['outcome'] as const,
    registers,
  });
  const seconds = new Histogram({
    name: 'mobvibe_save_seconds',
    help: 'From the beginning of a save to its end, by outcome',
    labelNames: ['outcome'] as const,
    buckets: [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800],
    registers,
  });
  const bytes = new Histogram({
    name: 'mobvibe_save_bytes',
    help: 'Bytes that a save had to upload, for saves that made a version',
    buckets: [1_024, 16_384, 262_144, 1_048_576, 16_777_216, 134_217_728, 1_073_741_824],
    registers,
  });

  return {
    saved(report) {
      const { outcome } = report;
      saves.inc({ outcome });
      seconds.observe({ outcome }, report.durationMs / 1_000);
      if (outcome === 'saved') bytes.observe(report.bytes);
    },

    watchSaves(ledger, saveIntervalMs, clock) {
      new Gauge({
        name: 'mobvibe_unsaved_seconds',
        help: 'An upper bound for the age of the oldest change that is not saved: of the sandboxes of this controller whose last save failed, whose save under way has found changes, or that should have been saved long ago, the time since the beginning of the last save that succeeded (or since the sandbox was ready). 0 where there is none; a change since the last save in time is not counted',
        registers,
        collect() {
          this.set(ledger.oldestUnsavedMs(clock(), saveIntervalMs) / 1_000);
        },
      });
      new Gauge({
        name: 'mobvibe_sandboxes_failing_to_save',
        help: 'Sandboxes of this controller whose last save failed',
        registers,
        collect() {
          this.set(ledger.failing);
        },
      });
    },
  };
}
