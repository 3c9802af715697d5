import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { PeerSilent, Pulse } from '../../controller/pulse.ts';

let server: Server;
let address: string;
/** Answers only while it is true. */
let alive: boolean;
let asked: number;
let now: number;
beforeEach(async () => {
  alive = true;
  asked = 0;
  now = 0;
  server = createServer((_request, response) => {
    asked++;
    if (alive) response.end('{}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const TIMES = { freshMs: 1_000, answerMs: 100, everyMs: 20, silentMs: 100 };
const pulse = () => new Pulse(TIMES, () => now);

describe('before something is sent', () => {
  test('a controller is asked, but not when it was heard a moment ago, and once for all that ask together', async () => {
    const one = pulse();
    await Promise.all([one.assure(address), one.assure(address), one.assure(address)]);
    expect(asked).toBe(1);
    now = 999;
    await one.assure(address);
    expect(asked).toBe(1);
    now = 1_000;
    await one.assure(address);
    expect(asked).toBe(2);
    now = 3_000;
    one.heard(address);
    await one.assure(address);
    expect(asked).toBe(2);
  });

  test('one that does not answer, or is not there, is found silent', async () => {
    alive = false;
    await expect(pulse().assure(address)).rejects.toThrow(PeerSilent);
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    await expect(pulse().assure(address)).rejects.toThrow('takes no connection');
  });
});

describe('while something is waited for', () => {
  test('a controller that answers is left in peace, one that stops is told of', async () => {
    const told: Error[] = [];
    const stop = pulse().watch(address, (error) => told.push(error));
    await expect.poll(() => asked).toBeGreaterThan(5);
    expect(told).toEqual([]);
    alive = false;
    await expect.poll(() => told.length).toBeGreaterThan(0);
    expect(told[0]).toBeInstanceOf(PeerSilent);
    stop();
  });

  test('nobody is asked for who waits no more', async () => {
    const one = pulse();
    const told: string[] = [];
    const [stopA, stopB] = ['a', 'b'].map((name) => one.watch(address, () => told.push(name)));
    await expect.poll(() => asked).toBeGreaterThan(1);
    stopA!();
    stopA!();
    alive = false;
    await expect.poll(() => told.length).toBeGreaterThan(0);
    expect(new Set(told)).toEqual(new Set(['b']));
    stopB!();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = asked;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(asked).toBe(before);
  });

  test('one that takes no new connection while it shuts down is not silent', async () => {
    const told: Error[] = [];
    const stop = pulse().watch(address, (error) => told.push(error));
    await expect.poll(() => asked).toBeGreaterThan(0);
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(told).toEqual([]);
    stop();
  });
});
