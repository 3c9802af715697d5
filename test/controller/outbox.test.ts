import { describe, expect, it } from 'vitest';
import { Outbox } from '../../controller/jobs/outbox.ts';
import type { OutputChunk } from '../../controller/store/index.ts';

describe('the outbox', () => {
  it('joins what follows on, stream by stream, and keeps the order', async () => {
    const written: OutputChunk[] = [];
    const outbox = new Outbox(async (chunk) => void written.push({ ...chunk }));
    await outbox.add({ type: 'stdout', offset: 0, data: 'é' });
    await outbox.add({ type: 'stdout', offset: 2, data: 'b' });
    await outbox.add({ type: 'stderr', offset: 0, data: 'x' });
    await outbox.add({ type: 'stdout', offset: 3, data: 'AA==', encoding: 'base64' });
    await outbox.add({ type: 'stdout', offset: 9, data: 'after a gap' });
    await outbox.flush();
    expect(written).toEqual([
      { stream: 'stdout', offset: 0, data: 'éb', encoding: 'utf8' },
      { stream: 'stderr', offset: 0, data: 'x', encoding: 'utf8' },
      { stream: 'stdout', offset: 3, data: 'AA==', encoding: 'base64' },
      { stream: 'stdout', offset: 9, data: 'after a gap', encoding: 'utf8' },
    ]);
  });

  it('sends nothing that lies behind what is kept', async () => {
    const written: number[] = [];
    const outbox = new Outbox(async ({ offset }) => void written.push(offset));
    const most = 4 * 1024 * 1024;
    for (const offset of [most - 1, most, most + 1, 1e9]) {
      await outbox.add({ type: 'stdout', offset, data: 'AA==', encoding: 'base64' });
    }
    await outbox.add({ type: 'stderr', offset: 0, data: 'x' });
    await outbox.flush();
    expect(written).toEqual([most - 1, 0]);
  });

  it('holds its writer back while a full row is written', async () => {
    const { promise: written, resolve } = Promise.withResolvers<void>();
    const outbox = new Outbox(() => written);
    let added = false;
    const adding = outbox.add({ type: 'stdout', offset: 0, data: 'x'.repeat(70_000) }).then(() => {
      added = true;
    });
    await new Promise(setImmediate);
    expect(added).toBe(false);
    resolve();
    await adding;
  });

  it('tells its writer when a row could not be written', async () => {
    const outbox = new Outbox(async () => {
      throw new Error('fenced');
    });
    await outbox.add({ type: 'stdout', offset: 0, data: 'x' });
    await expect(outbox.flush()).rejects.toThrow('fenced');
    await expect(outbox.add({ type: 'stdout', offset: 1, data: 'y' })).rejects.toThrow('fenced');
  });
});
