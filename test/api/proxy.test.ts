import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { ofLength, withIncarnation } from '../../controller/api/proxy.ts';

const START = '{"type":"start","id":"e","pid":7,"started_at":1}\n';
const cut = (all: string, size: number) =>
  Readable.from(
    Array.from({ length: Math.ceil(all.length / size) }, (_, i) =>
      Buffer.from(all.slice(i * size, (i + 1) * size)),
    ),
  );

describe('the first line learns the incarnation', () => {
  test.each([1, 3, 1000])('when it comes in pieces of %d bytes, and the rest is untouched', async (size) => {
    const rest = '{"type":"stdout","offset":0,"data":"x"}\nnot even JSON\n';
    const stamped = await text(withIncarnation(cut(START + rest, size), 9));
    const [first, ...others] = stamped.split('\n');
    expect(JSON.parse(first!)).toEqual({ type: 'start', id: 'e', pid: 7, started_at: 1, incarnation: 9 });
    expect(others.join('\n')).toBe(rest);
  });

  test.each([
    ['is not JSON', 'rubbish\n'],
    ['has no end', 'x'.repeat(70_000)],
  ])('a first line that %s breaks the stream, not the controller', async (_what, first) => {
    await expect(text(withIncarnation(cut(first, 1000), 9))).rejects.toMatchObject({ code: 'agent_lost' });
  });

  test.each(['null\n', '7\n', '[]\n'])('%j is let through', async (first) => {
    expect(await text(withIncarnation(cut(first, 1000), 9))).toBe(first);
  });

  const END = {
    ...{ type: 'end', result: { kind: 'exited', code: 3 } },
    ...{ stdout_bytes: 1, stderr_bytes: 0, duration_ms: 4 },
  };
  const OUTPUT = `${JSON.stringify({ type: 'stdout', offset: 0, data: 'x'.repeat(20_000) })}\n`;
  const endSeen = async (all: string, size: number) => {
    const seen: unknown[] = [];
    await text(withIncarnation(cut(all, size), 9, (end) => seen.push(end)));
    return seen;
  };

  test.each([1, 7, 1000, 65_536])('and the end is told, in pieces of %d bytes', async (size) => {
    expect(await endSeen(`${START}${OUTPUT}${JSON.stringify(END)}\n`, size)).toEqual([END]);
  });

  test.each([
    ['is no end', OUTPUT],
    ['is not whole', `${OUTPUT}${JSON.stringify(END)}`],
    ['is no JSON', `${OUTPUT}rubbish\n`],
    ['is null', `${OUTPUT}null\n`],
    ['has another result', `${JSON.stringify({ ...END, result: { kind: '__proto__' } })}\n`],
    ['lacks a field', `${JSON.stringify({ ...END, result: { kind: 'exited' } })}\n`],
    ['is too long', `${JSON.stringify({ ...END, more: 'x'.repeat(20_000) })}\n`],
  ])('a last line that %s tells no end', async (_what, rest) => {
    for (const size of [1, 1000, 100_000]) expect(await endSeen(START + rest, size)).toEqual([]);
  });

  test('of an end only what an end has is taken', async () => {
    const result = { kind: 'signaled', signal: 'SIGTERM', by: 'stop' };
    const strange = { ...END, result: { ...result, evil: 1 }, oom_killed: true, evil: 1 };
    const told = { ...END, result, oom_killed: true };
    expect(await endSeen(`${START}${JSON.stringify(strange)}\n`, 100)).toEqual([told]);
  });

  test('an error of the agent is handed on', async () => {
    const broken = Readable.from(
      (async function* () {
        yield Buffer.from(START);
        throw new Error('gone');
      })(),
    );
    await expect(text(withIncarnation(broken, 1))).rejects.toThrow('gone');
  });
});

describe('a file of a known length', () => {
  test('is handed on when all of it came', async () => {
    expect(await text(ofLength(cut('abcdef', 2), 6))).toBe('abcdef');
  });

  test.each([5, 7])('breaks off when the agent sent 6 bytes instead of %d', async (length) => {
    await expect(text(ofLength(cut('abcdef', 2), length))).rejects.toMatchObject({ code: 'agent_lost' });
  });
});
