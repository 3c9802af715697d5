/**
 * The engine in a process of its own, driven by lines of JSON: so that it can run as another user, and be killed.
 * Takes the engine's options as JSON in its only argument.
 */
import { createInterface } from 'node:readline';
import type { Engine, RunningMachine } from '../../local/fly/engine.ts';
import { createNamespacesEngine } from '../../local/fly/namespaces/index.ts';

const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`);
const failure = (error: Error & { code?: string }) => ({ code: error.code, message: error.message });

const options = JSON.parse(process.argv[2]!);
const machines = new Map<string, RunningMachine>();
let engine: Engine;
try {
  const log = (line: string, fields?: Record<string, unknown>) => say({ log: line, ...fields });
  engine = await createNamespacesEngine({ nodeBinary: process.execPath, ...options, log });
  say({ ready: engine.report() });
} catch (error) {
  say({ unusable: failure(error as Error) });
  process.exit(1);
}

const operations: Record<string, (machine: string, argument: never) => Promise<unknown> | undefined> = {
  resolveImage: (_, ref: string) => engine.resolveImage(ref),
  start: async (id, spec: Parameters<Engine['start']>[0]) => {
    const machine = await engine.start(spec);
    machines.set(id, machine);
    void machine.exited.then((exit) => say({ machine: id, exit }));
  },
  signal: (id, name: string) => machines.get(id)?.signal(name),
  exec: (id, request: Parameters<RunningMachine['exec']>[0]) => machines.get(id)?.exec(request),
  suspend: (id) => machines.get(id)?.suspend?.(),
  resume: (id) => machines.get(id)?.resume?.(),
  discard: (id) => engine.discard(id),
  close: () => engine.close(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, operation, machine, argument } = JSON.parse(line);
  Promise.resolve(operations[operation]!(machine, argument as never)).then(
    (result) => say({ call, result }),
    (error: Error) => say({ call, error: failure(error) }),
  );
}
process.exit();
