import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CallEvent } from '../../fly/index.ts';
import type { AgentHub } from '../agents/hub.ts';
import type { ErrorCode } from '../errors.ts';
import type { Cells } from '../sessions/cells.ts';
import { parseFailure } from '../sessions/failures.ts';
import type { SandboxLifecycle } from '../sessions/lifecycle.ts';
import { saveMetrics } from './save-metrics.ts';

/** What is asked at each scrape; a gauge of what is left out is not there. */
export interface Watched {
  /** Sandboxes that have been destroying for more than a minute, and those whose agent does not answer. */
  counts?: () => { destroying: number; unresponsive: number };
}

export type Metrics = ReturnType<typeof createMetrics>;

/** What Prometheus is told. Labels are closed sets: never an id. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });
  const flyCalls = new Histogram({
    name: 'mobvibe_fly_call_seconds',
    help: 'Calls of the Machines API, each try for itself',
    labelNames: ['call', 'outcome'] as const,
    buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers,
  });
  const transitions = new Counter({
    name: 'mobvibe_sandbox_transitions_total',
    help: 'Transitions of sandboxes made by this controller',
    labelNames: ['state', 'failure'] as const,
    registers,
  });
  const starts = new Histogram({
    name: 'mobvibe_sandbox_start_seconds',
    help: 'From the planned row to ready',
    buckets: [0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30, 60, 120],
    registers,
  });
  const refusals = new Counter({
    name: 'mobvibe_starts_refused_total',
    help: 'Opens of sessions that were refused at once, by code',
    labelNames: ['code'] as const,
    registers,
  });
  const gauge = (name: string, help: string, value: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });

  return {
    registry,
    ...saveMetrics(registry),

    refused(code: ErrorCode): void {
      refusals.inc({ code });
    },

    flyCall(event: CallEvent): void {
      flyCalls.observe({ call: event.call, outcome: event.error ?? 'ok' }, event.durationMs / 1000);
    },

    watch(lifecycle: SandboxLifecycle, hub: AgentHub, cells: Cells, { counts }: Watched = {}): void {
      lifecycle.on('change', (row) => {
        transitions.inc({ state: row.state, failure: parseFailure(row.reason)?.code ?? '' });
        if (row.state === 'ready' && row.ready_at !== null) {
          starts.observe((Date.parse(row.ready_at) - Date.parse(row.created_at)) / 1000);
        }
      });
      gauge('mobvibe_agents_connected', 'Agents connected to this controller', () => hub.size);
      gauge('mobvibe_cells_held', 'Cells that this controller works for', () => cells.apps.length);
      if (counts !== undefined) {
        gauge(
          'mobvibe_sandboxes_destroying',
          'Sandboxes whose machine Fly has not ended for more than a minute',
          () => counts().destroying,
        );
        gauge(
          'mobvibe_sandboxes_unresponsive',
          'Sandboxes whose agent does not answer',
          () => counts().unresponsive,
        );
      }
    },
  };
}
