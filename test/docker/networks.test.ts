import { once } from 'node:events';
import { type AddressInfo, createConnection, createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connectDocker } from '../../local/fly/docker/client.ts';
import { DEFAULT_SOCKET } from '../../local/fly/docker/index.ts';
import { Networks, randomSubnet } from '../../local/fly/docker/networks.ts';
import { NETWORK, ownershipOf, RUN } from '../../local/fly/docker/ownership.ts';
import { removeLabelled } from '../../local/fly/docker/removal.ts';
import { docker, dockerTest, newId, specOf, useEngine, useTestImage, type Wanted } from './host.ts';

const image = useTestImage();
const stage = useEngine(image);

const PORT = 8080;
/** A server tells who it is: networks outside may well answer for addresses that are not theirs. */
const SERVE = `require("net").createServer((s) => s.end(process.env.WORD)).listen(${PORT});
  process.on("SIGTERM", () => process.exit());`;
/** What says that a call did not get through. It is never waited for where it should. */
const NOT_REACHED = /^(timeout|nothing|EHOSTUNREACH|ENETUNREACH|ECONNREFUSED)$/;
const NO_SUCH_NAME = /^(ENOTFOUND|EAI_AGAIN)$/;
const PATIENCE_MS = 1_500;

/** A machine that others may connect to, once it listens. */
async function server(wanted: Wanted = {}) {
  const word = newId();
  const machine = await stage.boot({ exec: ['/bin/node', '-e', SERVE], env: { WORD: word }, ...wanted });
  await expect.poll(() => machine.call('127.0.0.1', PORT), { timeout: 20_000 }).toBe(word);
  return { ...machine, word };
}

/** Addresses of a machine on all of its Docker networks. */
async function addressesOf(id: string): Promise<string[]> {
  const filters = { label: [`mobvibe.local-fly.machine=${id}`] };
  const [container] = await docker.listContainers({ filters });
  return Object.values(container!.NetworkSettings.Networks).map(({ IPAddress }) => IPAddress);
}

async function networksOf(flyNetwork: string): Promise<string[]> {
  const networks = await docker.listNetworks({ filters: { label: [`${NETWORK}=${flyNetwork}`] } });
  return networks.map(({ Name }) => Name.replace(/^mobvibe-[0-9a-f]{12}-/, '')).sort();
}

describe('machines of one network', () => {
  dockerTest('reach each other by address and by name, those of another by neither', async () => {
    const [one, other] = [`n${newId()}`, `n${newId()}`];
    const target = await server({ app: 'web', network: { name: one } });
    const peer = await stage.boot({ network: { name: one } });
    const stranger = await stage.boot({ network: { name: other } });
    expect(await peer.call('web.internal', PORT)).toBe(target.word);
    expect(await peer.call(`${target.id}.vm.web.internal`, PORT)).toBe(target.word);
    for (const address of await addressesOf(target.id)) {
      expect(await peer.call(address, PORT)).toBe(target.word);
      expect(await stranger.call(address, PORT, PATIENCE_MS), address).toMatch(NOT_REACHED);
    }
    expect(await stranger.call('web.internal', PORT)).toMatch(NO_SUCH_NAME);
  });

  dockerTest(
    'do not reach one whose policy denies ingress, nor does it matter that its own lets all out',
    async () => {
      const name = `n${newId()}`;
      const closed = { name, deniesIngress: true };
      const [first, second] = [await server({ network: closed }), await server({ network: closed })];
      const peer = await stage.boot({ network: { name } });
      for (const address of await addressesOf(first.id)) {
        expect(await second.call(address, PORT, PATIENCE_MS), address).toMatch(NOT_REACHED);
        expect(await peer.call(address, PORT, PATIENCE_MS), address).toMatch(NOT_REACHED);
      }
      expect(await second.call(`${first.id}.vm.app.internal`, PORT)).toMatch(NO_SUCH_NAME);
    },
  );
});

describe('the way out', () => {
  dockerTest(
    'is open without a policy, and closed towards this host, too, where one denies egress',
    async () => {
      const host = createServer((socket) => socket.end('this host')).listen(0, '0.0.0.0');
      onTestFinished(() => void host.close());
      await once(host, 'listening');
      const { port } = host.address() as AddressInfo;
      const open = await stage.boot();
      expect(await open.call('host.docker.internal', port)).toBe('this host');

      const closed = await stage.boot({ network: { deniesEgress: true } });
      expect(closed.address).toBeUndefined();
      const own = await addressesOf(closed.id);
      expect(own).toHaveLength(1);
      const gateway = own[0]!.replace(/\d+$/, (last) => (Number(last) < 128 ? '1' : '129'));
      const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
      for (const { address, family, internal } of [
        ...addresses,
        { address: gateway, family: 'IPv4' as const, internal: false },
      ]) {
        if (family !== 'IPv4' || internal) continue;
        expect(await closed.call(address, port, PATIENCE_MS), address).toMatch(NOT_REACHED);
      }
      expect(await closed.call('host.docker.internal', port)).toMatch(NO_SUCH_NAME);
    },
  );

  dockerTest('is what a machine is reached by from this host', async () => {
    const machine = await server();
    const socket = createConnection({ host: machine.address!, port: PORT });
    expect(String((await once(socket, 'data'))[0])).toBe(machine.word);
    socket.destroy();
  });
});

describe('a Flycast name', () => {
  const name = `n${newId()}`;
  const cell = { name, deniesIngress: true, deniesEgress: true };
  const flycast = { app: 'controller', network: { flycast: [name] } };

  dockerTest('leads from cells that are cut off to whom it belongs, whichever boots first', async () => {
    const before = await server({ network: cell });
    const controller = await server(flycast);
    const after = await server({ network: cell });
    for (const machine of [before, after]) {
      expect(await machine.call('controller.flycast', PORT)).toBe(controller.word);
    }
    // The way in to the controller is no way through it, and the controller keeps its own way out.
    expect(await before.call((await addressesOf(after.id))[0]!, PORT)).toMatch(NOT_REACHED);
    expect(await controller.sh('cat /proc/net/route')).toMatch(/\t00000000\t(?!0+\t)/);
    const stranger = await stage.boot();
    expect(await stranger.call('controller.flycast', PORT)).toMatch(NO_SUCH_NAME);

    // A new controller takes its place; that it may be called is said only after it has booted.
    await controller.signal('SIGKILL');
    await controller.exited;
    const next = await server({ app: 'controller' });
    expect(await before.call('controller.flycast', PORT, PATIENCE_MS)).toMatch(NO_SUCH_NAME);
    await next.serveFlycast!([name]);
    await next.serveFlycast!([name]);
    expect(await before.call('controller.flycast', PORT)).toBe(next.word);
  });
});

describe('a Flycast name on its own network', () => {
  dockerTest('is there for its neighbours', async () => {
    const name = `n${newId()}`;
    const target = await server({ app: 'web', network: { name, flycast: [name] } });
    const peer = await stage.boot({ network: { name } });
    expect(await peer.call('web.flycast', PORT)).toBe(target.word);
  });
});

describe('Docker networks', () => {
  dockerTest('come with the first machine that needs them and go with the last', async () => {
    const name = `n${newId()}`;
    const boot = (network: Wanted['network']) => stage.boot({ network: { name, ...network } });
    const machines = [
      await boot({}),
      await boot({ deniesEgress: true }),
      await boot({ deniesIngress: true }),
    ];
    const own = machines[2]!.id;
    expect(await networksOf(name)).toEqual(
      [name, `${name}.${own}`, `${name}.${own}.out`, `${name}.out`].sort(),
    );
    const left = [
      [name, `${name}.${own}`, `${name}.${own}.out`].sort(),
      [`${name}.${own}`, `${name}.${own}.out`],
      [],
    ];
    for (const [index, machine] of machines.entries()) {
      await expect(stage.engine.discard(machine.id)).rejects.toThrow('runs');
      await machine.signal('SIGKILL');
      await machine.exited;
      await stage.engine.discard(machine.id);
      await stage.engine.discard(machine.id);
      expect(await networksOf(name)).toEqual(left[index]);
    }
  });

  dockerTest('are more than the thirty that Docker has addresses for by itself', async () => {
    const ownership = ownershipOf('/no/such/folder', newId());
    const networks = new Networks(await connectDocker(DEFAULT_SOCKET), ownership, Math.random);
    const name = `n${newId()}`;
    const network = { name, deniesIngress: true, deniesEgress: true, flycast: [] };
    const ids = Array.from({ length: 35 }, newId);
    onTestFinished(() => removeLabelled(docker, RUN, ownership.run).then(() => undefined));
    await Promise.all(ids.map((id) => networks.join(specOf({ id, image, digest: '', network }))));
    const made = await docker.listNetworks({ filters: { label: [`${NETWORK}=${name}`] } });
    const subnets = new Set(made.map(({ IPAM }) => IPAM?.Config?.[0]?.Subnet));
    expect(subnets.size).toBe(35);
    for (const subnet of subnets) expect(subnet).toMatch(/^198\.1[89]\./);
    await Promise.all(ids.map((id) => networks.leave(id)));
    expect(await networksOf(name)).toEqual([]);
  });

  test('have subnets within 198.18.0.0/15', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (random) => {
        expect(randomSubnet(() => random)).toMatch(
          /^198\.1[89]\.(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\.(0|128)\/25$/,
        );
      }),
    );
    const all = new Set(Array.from({ length: 1_024 }, (_, i) => randomSubnet(() => i / 1_024)));
    expect(all.size).toBe(1_024);
  });
});
