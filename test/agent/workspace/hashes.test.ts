import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { pieces } from '../../../image/agent/workspace/hashes.ts';

test('a file that grows as fast as it is read comes to an end', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'agent-pieces-'));
  onTestFinished(() => rmSync(dir, { recursive: true }));
  const path = join(dir, 'log');
  const size = (2 << 20) + 1;
  writeFileSync(path, Buffer.alloc(size));
  await using handle = await open(path);
  const read: number[] = [];
  for await (const piece of pieces(handle, size)) {
    read.push(piece.length);
    if (read.length > 9) break;
    appendFileSync(path, Buffer.alloc(1 << 20));
  }
  expect(read).toEqual([1 << 20, 1 << 20, 1]);
});
