import { randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Bench } from './bench.ts';
import { type Figure, median } from './figures.ts';

const MEGABYTES = 256;
const ROUNDS = 5;
const BLOCK = randomBytes(1 << 20);

/** A file written and read through SDK, controller and agent, in turn with the same bytes over plain loopback HTTP to and from a file. */
export async function benchTunnel({ mobvibe }: Bench): Promise<Figure[]> {
  await using session = await mobvibe.sessions.create({ id: 'bench-tunnel', memoryMb: 2048 });
  const plain = await plainHttp();
  const rates: Record<'write' | 'read' | 'plainWrite' | 'plainRead', number[]> = {
    write: [],
    read: [],
    plainWrite: [],
    plainRead: [],
  };
  try {
    for (let round = 0; round <= ROUNDS; round += 1) {
      const measured = {
        write: await rate(() => session.files.write('big.bin', source())),
        plainWrite: await rate(() => plain.write(source())),
        read: await rate(async () => drain(await session.files.readStream('big.bin'))),
        plainRead: await rate(() => plain.read()),
      };
      // The first round warms up.
      if (round === 0) continue;
      for (const key of Object.keys(rates) as (keyof typeof rates)[]) rates[key].push(measured[key]);
    }
  } finally {
    await plain.close();
  }
  const [write, read] = [median(rates.write), median(rates.read)];
  const [plainWrite, plainRead] = [median(rates.plainWrite), median(rates.plainRead)];
  return [
    { name: 'write a file through the tunnel', value: write, unit: 'MB/s', aim: { atLeast: 250 } },
    { name: 'write over plain HTTP', value: plainWrite, unit: 'MB/s' },
    { name: 'ratio, write', value: write / plainWrite, unit: '×', aim: { atLeast: 0.5 } },
    { name: 'read a file through the tunnel', value: read, unit: 'MB/s', aim: { atLeast: 250 } },
    { name: 'read over plain HTTP', value: plainRead, unit: 'MB/s' },
    { name: 'ratio, read', value: read / plainRead, unit: '×', aim: { atLeast: 0.5 } },
  ];
}

function source(): Readable {
  let left = MEGABYTES;
  return new Readable({
    highWaterMark: 1 << 20,
    read() {
      this.push(left > 0 ? BLOCK : null);
      left -= 1;
    },
  });
}

async function drain(stream: Readable): Promise<void> {
  let bytes = 0;
  await pipeline(
    stream,
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        done();
      },
    }),
  );
  if (bytes !== MEGABYTES << 20) throw new Error(`${bytes} bytes came back, not ${MEGABYTES << 20}`);
}

async function rate(run: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await run();
  return ((MEGABYTES << 20) / 1e6 / (performance.now() - began)) * 1000;
}

/** The raw thing: one Node, one HTTP server, one file. */
async function plainHttp() {
  const folder = await mkdtemp(join(tmpdir(), 'mobvibe-bench-'));
  const file = join(folder, 'big.bin');
  const server = createServer((incoming, outgoing) => {
    const done = () => void outgoing.end();
    if (incoming.method === 'PUT') pipeline(incoming, createWriteStream(file)).then(done, done);
    else
      pipeline(createReadStream(file, { highWaterMark: 1 << 18 }), outgoing).catch(() => outgoing.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const port = (server.address() as AddressInfo).port;
  const call = (method: string, body?: Readable) =>
    new Promise<Readable>((resolve, reject) => {
      const outgoing = request({ host: '127.0.0.1', port, method }, resolve).once('error', reject);
      if (body) body.pipe(outgoing);
      else outgoing.end();
    });
  return {
    async write(body: Readable) {
      (await call('PUT', body)).resume();
      if ((await stat(file)).size !== MEGABYTES << 20) throw new Error('the plain upload is not whole');
    },
    read: async () => drain(await call('GET')),
    async close() {
      server.closeAllConnections();
      server.close();
      await rm(folder, { recursive: true });
    },
  };
}
