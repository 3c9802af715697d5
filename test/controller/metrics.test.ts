import { EventEmitter } from 'node:events';
import { expect, it } from 'vitest';
import type { AgentHub } from '../../controller/agents/hub.ts';
import { SaveLedger } from '../../controller/files/ledger.ts';
import type { Cells } from '../../controller/sessions/cells.ts';
import type { SandboxLifecycle } from '../../controller/sessions/lifecycle.ts';
import type { SandboxRow } from '../../controller/store/rows.ts';
import { createMetrics } from '../../controller/telemetry/metrics.ts';

it('tells of saves and of what is in trouble', async () => {
  const metrics = createMetrics();
  const lifecycle = new EventEmitter() as unknown as SandboxLifecycle;
  const hub = { size: 3 } as AgentHub;
  const cells = { apps: ['a', 'b'] } as Cells;
  metrics.watch(lifecycle, hub, cells, {
    counts: () => ({ destroying: 2, unresponsive: 1 }),
  });
  const ledger = new SaveLedger();
  metrics.watchSaves(ledger, 60_000, () => 90_000);
  const row = { name: 's-a-1', app: 'a', ready_at: new Date(0).toISOString() } as SandboxRow;
  ledger.saved(row, 60_000);
  ledger.failed(row, 80_000);
  metrics.saved({ outcome: 'saved', durationMs: 1_500, bytes: 2_000 });
  metrics.saved({ outcome: 'unchanged', durationMs: 10, bytes: 0 });
  metrics.saved({ outcome: 'storage_full', durationMs: 10, bytes: 0 });
  metrics.refused('no_capacity');
  const lines = (await metrics.registry.metrics()).split('\n');
  for (const line of [
    'mobvibe_agents_connected 3',
    'mobvibe_cells_held 2',
    'mobvibe_sandboxes_destroying 2',
    'mobvibe_sandboxes_unresponsive 1',
    'mobvibe_unsaved_seconds 30',
    'mobvibe_sandboxes_failing_to_save 1',
    'mobvibe_saves_total{outcome="saved"} 1',
    'mobvibe_saves_total{outcome="storage_full"} 1',
    'mobvibe_save_seconds_sum{outcome="saved"} 1.5',
    'mobvibe_save_bytes_sum 2000',
    'mobvibe_save_bytes_count 1',
    'mobvibe_starts_refused_total{code="no_capacity"} 1',
  ]) {
    expect(lines).toContain(line);
  }
});

it('leaves out what nobody can tell', async () => {
  const metrics = createMetrics();
  metrics.watch(
    new EventEmitter() as unknown as SandboxLifecycle,
    { size: 0 } as AgentHub,
    { apps: [] as string[] } as Cells,
  );
  expect(await metrics.registry.metrics()).not.toMatch(/clock_skew|_destroying|_unresponsive/);
});
