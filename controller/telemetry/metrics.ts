import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { CallEvent } from '../../fly/index.ts';
import type { AgentHub } from '../agents/hub.ts';
import type { Cells } from '../sessions/cells.ts';
import { parseFailure } from '../sessions/failures.ts';
import type { SandboxLifecycle } from '../sessions/lifecycle.ts';

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

  return {
    registry,

    flyCall(event: CallEvent): void {
      flyCalls.observe({ call: event.call, outcome: event.error ?? 'ok' }, event.durationMs / 1000);
    },

    watch(lifecycle: SandboxLifecycle, hub: AgentHub, cells: Cells): void {
      lifecycle.on('change', (row) => {
        transitions.inc({ state: row.state, failure: parseFailure(row.reason)?.code ?? '' });
        if (row.state === 'ready' && row.ready_at !== null) {
          starts.observe((Date.parse(row.ready_at) - Date.parse(row.created_at)) / 1000);
        }
      });
      new Gauge({
        name: 'mobvibe_agents_connected',
        help: 'Agents connected to this controller',
        registers,
        collect() {
          this.set(hub.size);
        },
      });
      new Gauge({
        name: 'mobvibe_cells_held',
        help: 'Cells that this controller works for',
        registers,
        collect() {
          this.set(cells.apps.length);
        },
      });
    },
  };
}
