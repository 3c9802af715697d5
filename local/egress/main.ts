/** `node local/egress/main.ts --socket PATH --allow HOST:PORT … --tethered`: the egress proxy as a process of its own. */
import { parseArgs } from 'node:util';
import { parseTarget, startEgressProxy } from './proxy.ts';

const { values } = parseArgs({
  options: {
    socket: { type: 'string' },
    allow: { type: 'string', multiple: true, default: [] },
    tethered: { type: 'boolean', default: false },
  },
});
if (!values.socket) {
  process.stderr.write('egress: --socket PATH is missing\n');
  process.exit(2);
}
const allow = new Set<string>();
for (const entry of values.allow) {
  const target = parseTarget(entry);
  if (!target) {
    process.stderr.write(`egress: --allow wants HOST:PORT, got ${JSON.stringify(entry)}\n`);
    process.exit(2);
  }
  allow.add(`${target.host}:${target.port}`);
}
const proxy = await startEgressProxy({
  socketPath: values.socket,
  allow,
  log: (line) => process.stderr.write(`${line}\n`),
});
const stop = () => void proxy.close().then(() => process.exit(0));
process.once('SIGTERM', stop);
process.once('SIGINT', stop);
if (values.tethered) process.stdin.resume().once('close', stop);
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
