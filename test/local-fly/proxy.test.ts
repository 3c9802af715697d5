import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { FlyProxy, type Reachable } from '../../local/fly/proxy.ts';
import type { MachineService } from '../../local/fly/wire.ts';

/** One of loopback; the port is free on it as nobody else uses it. */
const ADDRESS = '127.97.3.5';
const PORT = 18_080;
const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

const service = (internal_port: number, port = PORT, handlers?: string[]): MachineService => ({
  ...{ protocol: 'tcp', internal_port },
  ports: [{ port, ...(handlers && { handlers }) }],
});

/** What a machine runs: says its name, then gives back what it is told, until the caller has ended. */
async function machine(name: string): Promise<Reachable & { server: Server }> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.write(`${name}:`);
    socket.pipe(socket);
    socket.on('error', () => {});
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  open.push(server);
  const { port } = server.address() as { port: number };
  return { address: '127.0.0.1', services: [service(port)], server };
}

function app(): { machines: Reachable[]; addresses: string[]; proxy: FlyProxy; log: string[] } {
  const it = { machines: [] as Reachable[], addresses: [ADDRESS], log: [] as string[] };
  const proxy = new FlyProxy({
    addressesOf: () => it.addresses,
    servicesOf: () => it.machines.flatMap(({ services }) => services),
    reachableOf: () => it.machines,
    log: (line) => it.log.push(line),
  });
  open.push(proxy);
  return Object.assign(it, { proxy });
}

async function say(text: string, port = PORT): Promise<string> {
  const socket: Socket = connect({ host: ADDRESS, port, allowHalfOpen: true });
  socket.end(text);
  let answer = '';
  for await (const part of socket.setEncoding('utf8')) answer += part;
  return answer;
}

/** Until the listeners have changed: they do so a moment after `follow`. */
const refuses = () =>
  expect.poll(() => say('x').catch((error: NodeJS.ErrnoException) => error.code)).toBe('ECONNREFUSED');
const answers = (text: string) => expect.poll(() => say('x').catch(() => '')).toBe(text);

test('a connection to an address of the app reaches its machine, both ways, until either side ends', async () => {
  const one = app();
  one.machines = [await machine('a')];
  one.proxy.follow('one');
  await answers('a:x');
});

test('machines take turns, and one that refuses is passed over', async () => {
  const one = app();
  const [a, b] = [await machine('a'), await machine('b')];
  one.machines = [a, b];
  one.proxy.follow('one');
  await expect.poll(() => say('0').catch(() => '')).toMatch(/:0$/);
  const heard = new Set([await say('1'), await say('1')]);
  expect([...heard].sort()).toEqual(['a:1', 'b:1']);
  b.server.close();
  expect([await say('2'), await say('2')]).toEqual(['a:2', 'a:2']);
});

test('a caller waits for a machine that is about to run', async () => {
  const one = app();
  const a = await machine('a');
  const { proxy } = one;
  one.machines = [{ ...a, address: '127.0.0.1', services: [service(1)] }];
  proxy.follow('one');
  const answer = say('x');
  await expect.poll(() => one.log).toEqual([]);
  one.machines = [a];
  expect(await answer).toBe('a:x');
});

test('nothing listens where an address or the last machine is gone, nor on a port that wants TLS', async () => {
  const one = app();
  const a = await machine('a');
  one.machines = [a];
  one.proxy.follow('one');
  await answers('a:x');
  one.addresses = [];
  one.proxy.follow('one');
  await refuses();
  one.addresses = [ADDRESS, '2001:db8::1'];
  one.proxy.follow('one');
  await answers('a:x');
  one.machines = [{ ...a, services: [service(a.services[0]!.internal_port, PORT, ['tls', 'http'])] }];
  one.proxy.follow('one');
  await refuses();
  expect(one.log).toEqual([]);
});

test('an address that this host does not have is told, and the rest works', async () => {
  const one = app();
  one.machines = [await machine('a')];
  const taken = createServer();
  await once(taken.listen(PORT, ADDRESS), 'listening');
  one.proxy.follow('one');
  await expect.poll(() => one.log).toEqual([expect.stringContaining(`${ADDRESS}:${PORT} for one`)]);
  taken.close();
});
