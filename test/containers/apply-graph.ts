/**
 * Makes what the Pulumi program describes, without Pulumi's engine: each resource that the program registers is created for real, in
 * the order of its dependencies, and deleted in the opposite one. It has no state and no diffs, so it stands in for a first `up` and a
 * `destroy` alone, where the real engine can't be had. Dynamic resources go through the provider process of `@pulumi/pulumi`;
 * images are built and pushed by the `docker` command.
 *
 * A process of its own, as Vitest rewrites `import()` and Pulumi can't serialize a provider then. Settings: the variable `SETTINGS`, as
 * JSON, on stdin (they hold secrets). Prints the program's outputs as one JSON line; the end of stdin is the destroy.
 */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as pulumi from '@pulumi/pulumi';
import { docker } from '../image/docker.ts';
import { type Class, type Props, startProviderProcess } from '../infra/provider-process.ts';
import { unwrap } from '../infra/unwrap.ts';

const INFRA = fileURLToPath(new URL('../../infra', import.meta.url));
const COMMAND_TIMEOUT_MS = 300_000;

type Made = { id: string; state: Props };
const undo: (() => Promise<unknown>)[] = [];
/** Under mocks Pulumi keeps a failure to itself. */
const failed: unknown[] = [];

const stdin = createInterface({ input: process.stdin });
const [line] = (await once(stdin, 'line')) as [string];
const settings = JSON.parse(line) as Record<string, string>;
const ended = once(stdin, 'close');
const providers = await startProviderProcess({ FLY_API_TOKEN: process.env.FLY_API_TOKEN! });

await pulumi.runtime.setMocks({ call: () => ({}), newResource: makeOrFail }, 'mobvibe', 'demo');
pulumi.runtime.setAllConfig(
  settings,
  Object.keys(settings).filter((key) => /(Key|DbUrl)$/.test(key)),
);
const program = await import('../../infra/index.ts');
// Waits until all that was registered is made.
await pulumi.runtime.disconnect();
if (failed.length > 0) throw failed[0];
const [controllerUrl, apiKey] = await Promise.all([
  settled(program.controllerUrl),
  settled(pulumi.unsecret(program.apiKey)),
]);
process.stdout.write(`${JSON.stringify({ controllerUrl, apiKey })}\n`);
await ended;
for (const step of undo.reverse()) await step();
await providers.close();

async function makeOrFail({ type, name, inputs }: pulumi.runtime.MockResourceArgs): Promise<Made> {
  try {
    return await make(type, name, unwrap(inputs) as Props);
  } catch (error) {
    failed.push(error);
    throw error;
  }
}

async function make(type: string, name: string, inputs: Props): Promise<Made> {
  const dynamic = /^pulumi-nodejs:dynamic\/\w+:(\w+)$/.exec(type)?.[1];
  if (dynamic !== undefined) return makeDynamic(dynamic as Class, inputs);
  if (type.startsWith('command:')) return makeCommand(name, inputs);
  if (type.startsWith('docker:')) return makeImage(name, inputs);
  return { id: name, state: inputs }; // A component.
}

async function makeDynamic(name: Class, { __provider, ...inputs }: Props): Promise<Made> {
  const provider = providers.of(name);
  const { id, outs } = await provider.create(await provider.check(inputs));
  undo.push(() => provider.delete(id, outs));
  return { id, state: outs };
}

async function makeCommand(name: string, inputs: Props): Promise<Made> {
  const run = async (command: unknown) => {
    if (command === undefined) return '';
    const options = {
      cwd: INFRA,
      env: { ...process.env, ...(inputs.environment as Record<string, string>) },
      timeout: COMMAND_TIMEOUT_MS,
    };
    return (await promisify(execFile)('/bin/sh', ['-c', String(command)], options)).stdout;
  };
  undo.push(() => run(inputs.delete));
  // The database has its schema already: the Supabase CLI would be fetched for this alone.
  const stdout = name === 'database-migrate' ? '' : await run(inputs.create);
  return { id: name, state: { ...inputs, stdout } };
}

async function makeImage(name: string, inputs: Props): Promise<Made> {
  const build = inputs.build as { context: string; target?: string; args: Record<string, string> };
  const tag = String(inputs.imageName);
  const args = Object.entries(build.args).flatMap(([key, value]) => ['--build-arg', `${key}=${value}`]);
  const target = build.target === undefined ? [] : ['--target', build.target];
  const context = fileURLToPath(new URL(build.context, new URL('../../infra/', import.meta.url)));
  await docker(['build', '--quiet', '--tag', tag, ...args, ...target, context]);
  await docker(['push', '--quiet', tag]);
  const [repoDigest] = (
    await docker(['image', 'inspect', '--format', '{{join .RepoDigests "\\n"}}', tag])
  ).split('\n');
  return { id: name, state: { ...inputs, repoDigest } };
}

function settled<T>(output: pulumi.Output<T>): Promise<T> {
  return new Promise((resolve) => void output.apply(resolve));
}
