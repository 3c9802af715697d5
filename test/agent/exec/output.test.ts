import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ExecEvent } from '../../../controller/agents/wire.ts';
import { decode, gather, Rig, until } from '../rig.ts';

const MIB = 1 << 20;
let rig: Rig;
beforeAll(async () => {
  rig = await Rig.start();
});
afterAll(() => rig[Symbol.asyncDispose]());

test('text and other bytes come through unchanged, characters whole', async () => {
  const command = `printf 'h\\303'; sleep 0.1; printf '\\251llo \\360\\237\\230'; sleep 0.1; printf '\\200 \\377\\000end\\303'`;
  const { events, bytes } = await rig.run('text', command);
  expect(bytes.stdout).toEqual(
    Buffer.concat([
      Buffer.from('héllo 😀 '),
      Buffer.from([0xff, 0]),
      Buffer.from('end'),
      Buffer.from([0xc3]),
    ]),
  );
  expect(events[1]).toEqual({ type: 'stdout', offset: 0, data: 'h' });
  expect(events.filter((event) => event.type === 'stdout' && event.encoding === 'base64')).toHaveLength(2);
});

test('readers that come late, early, together or from an offset all get the same bytes', async () => {
  const command = 'seq 200000; seq 50000 >&2; sleep 0.2; seq 200000 300000';
  const first = rig.run('many', command);
  const second = rig.run('many', command);
  const whole = await first;
  expect((await second).bytes).toEqual(whole.bytes);
  const late = await gather(rig.events('GET', '/execs/many/output?stdout=1000001&stderr=7'));
  expect(late.bytes.stdout.equals(whole.bytes.stdout.subarray(1_000_001))).toBe(true);
  expect(late.bytes.stderr.equals(whole.bytes.stderr.subarray(7))).toBe(true);
  expect(late.end).toEqual(whole.end);
  const beyond = await gather(rig.events('GET', '/execs/many/output?stdout=99999999&stderr=99999999'));
  expect(beyond.bytes.stdout.length + beyond.bytes.stderr.length).toBe(0);
  expect((await rig.request('GET', '/execs/many/output?stdout=x')).json().code).toBe('invalid_request');
});

test('a link that is cut again and again costs no byte', async () => {
  const lines = 400_000;
  const parts: Buffer[] = [];
  let at = 0;
  let cuts = 0;
  let end: ExecEvent | undefined;
  await rig.request('PUT', '/execs/cut', { command: `seq ${lines}; sleep 0.3; seq ${lines}` });
  while (end === undefined) {
    try {
      for await (const event of rig.events('GET', `/execs/cut/output?stdout=${at}&stderr=0`)) {
        if (event.type === 'end') end = event;
        if (event.type !== 'stdout') continue;
        expect(event.offset).toBe(at);
        const bytes = decode(event);
        parts.push(bytes);
        at += bytes.length;
        if (cuts < 6 && at > (cuts + 1) * 700_000) {
          cuts += 1;
          await rig.cut();
        }
      }
    } catch {
      // The link broke before the answer: ask again.
    }
  }
  expect(cuts).toBe(6);
  const half = Buffer.from(Array.from({ length: lines }, (_, i) => `${i + 1}\n`).join(''));
  expect(Buffer.concat(parts).equals(Buffer.concat([half, half]))).toBe(true);
  expect(end).toMatchObject({ stdout_bytes: 2 * half.length });
});

test('a gigabyte that nobody reads fills neither memory nor disk, and the gap is told', async () => {
  const bytes = 1_000_000_000;
  await rig.request('PUT', '/execs/gigabyte', { command: `head -c ${bytes} /dev/zero; echo done` });
  let largest = 0;
  await until(async () => {
    largest = Math.max(largest, spooled());
    return (await rig.request('GET', '/execs/gigabyte')).json().state === 'ended';
  });
  expect(memory()).toBeLessThan(400 * MIB);
  expect(largest).toBeLessThan(80 * MIB);
  const { events, bytes: got, end } = await gather(rig.events('GET', '/execs/gigabyte/output'));
  expect(end).toMatchObject({ result: { kind: 'exited', code: 0 }, stdout_bytes: bytes + 5 });
  const gap = events.find((event) => event.type === 'gap');
  expect(gap).toMatchObject({ stream: 'stdout', from: 0, to: expect.any(Number) });
  expect(got.stdout.length).toBe(bytes + 5 - (gap as { to: number }).to);
  expect(got.stdout.length).toBeGreaterThan(32 * MIB);
  expect(got.stdout.subarray(-6).toString()).toBe('\0done\n');
});

test('a reader that follows slowly makes the process wait, and loses nothing', async () => {
  const bytes = 128 * MIB;
  const stream = await rig.open('PUT', '/execs/slow?follow=1');
  stream.end(JSON.stringify({ command: `head -c ${bytes} /dev/zero` }));
  const written = async () => (await rig.request('GET', '/execs/slow')).json()?.stdout_bytes ?? 0;
  // Nothing is read yet: the process stands still once windows and spool are full.
  let before = -1;
  await until(async () => {
    const now = await written();
    const still = now > 64 * MIB && now === before;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return still;
  });
  expect(before).toBeLessThan(120 * MIB);
  const sum = createHash('sha256');
  let rest = '';
  let got = 0;
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      const event = JSON.parse(line) as ExecEvent;
      expect(event.type).not.toBe('gap');
      if (event.type !== 'stdout') continue;
      expect(event.offset).toBe(got);
      const bytes = decode(event);
      got += bytes.length;
      sum.update(bytes);
    }
  });
  await new Promise((resolve) => stream.once('close', resolve));
  expect(got).toBe(bytes);
  expect(sum.digest('hex')).toBe(createHash('sha256').update(Buffer.alloc(bytes)).digest('hex'));
});

test('the spool is closed to everyone else', () => {
  expect(statSync(rig.state).mode & 0o777).toBe(0o700);
  expect(statSync(join(rig.state, 'spool')).mode & 0o777).toBe(0o700);
});

function spooled(): number {
  const dir = join(rig.state, 'spool');
  return readdirSync(dir).reduce(
    (sum, name) => sum + (statSync(join(dir, name), { throwIfNoEntry: false })?.size ?? 0),
    0,
  );
}

function memory(): number {
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${rig.agent.pid}/status`, 'utf8'))![1]);
}
