import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { credentials, type Metadata, type ServiceError } from '@grpc/grpc-js';
import grpcMessages from '@pulumi/pulumi/proto/provider_grpc_pb.js';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import statusMessages from '@pulumi/pulumi/proto/status_pb.js';
import structMessages from 'google-protobuf/google/protobuf/struct_pb.js';

const { Struct } = structMessages;
const INFRA = fileURLToPath(new URL('../../infra', import.meta.url));
const TETHER = new URL('../../local/stack/tether.ts', import.meta.url).href;
const PRINTER = fileURLToPath(new URL('./print-providers.ts', import.meta.url));

export type Props = Record<string, unknown>;
export type Class =
  | 'ApiKey'
  | 'App'
  | 'DeployToken'
  | 'IpAddress'
  | 'Machine'
  | 'NetworkPolicy'
  | 'RandomSecret'
  | 'Secrets';

export interface Printed {
  type: string;
  /** Text of the serialized provider. */
  provider: string;
  inputs: Props;
  additionalSecretOutputs: string[];
}

/** A create or update that failed; with an id, the object is kept in the state as it is. */
export interface Failure {
  message: string;
  id?: string;
  properties?: Props;
  reasons?: string[];
}

export interface Provider {
  check(news: Props): Promise<Props>;
  create(inputs: Props): Promise<{ id: string; outs: Props }>;
  diff(
    id: string,
    olds: Props,
    news: Props,
  ): Promise<{ changes: boolean; replaces: string[]; deleteBeforeReplace: boolean }>;
  read(id: string, outs: Props): Promise<{ id: string; outs: Props }>;
  update(id: string, olds: Props, news: Props): Promise<Props>;
  delete(id: string, outs: Props): Promise<void>;
}

export interface ProviderProcess {
  printed: Record<Class, Printed>;
  /** The engine's side of one resource class. The inputs of its calls get the serialized provider, as the engine's do. */
  of(name: Class): Provider;
  /** All that the process said: on stdout and stderr, and in errors. */
  log(): string;
  /** All that it answered, which is what gets into a state. */
  answers(): string;
  close(): Promise<void>;
}

/** The same for all processes of a test file. */
let printing: Promise<{ stdout: string }> | undefined;

/**
 * The process that the engine starts for dynamic resources, as it comes with `@pulumi/pulumi`, and the engine's side of
 * its gRPC. `environment` is all that it gets besides PATH.
 */
export async function startProviderProcess(environment: Record<string, string>): Promise<ProviderProcess> {
  printing ??= promisify(execFile)(process.execPath, [PRINTER], { maxBuffer: 10_000_000 });
  const script = createRequire(import.meta.url).resolve('@pulumi/pulumi/cmd/dynamic-provider');
  // It ends by itself when we are gone, also after a start that failed.
  const child = spawn(process.execPath, ['--import', TETHER, script, '127.0.0.1:1'], {
    cwd: INFRA,
    env: { PATH: process.env.PATH, ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const log: string[] = [];
  const answers: string[] = [];
  child.stderr.on('data', (chunk) => log.push(String(chunk)));
  child.stdout.on('data', (chunk) => log.push(String(chunk)));
  const [port] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
  const client = new grpcMessages.ResourceProviderClient(`127.0.0.1:${port}`, credentials.createInsecure());
  const printed: Record<Class, Printed> = JSON.parse((await printing).stdout);

  type Method = 'check' | 'diff' | 'create' | 'read' | 'update' | 'delete';
  // biome-ignore lint/suspicious/noExplicitAny: one shape for six generated methods.
  const call = (method: Method, request: unknown): Promise<any> =>
    new Promise((resolve, reject) => {
      // biome-ignore lint/suspicious/noExplicitAny: as above.
      (client as any)[method](request, (error: ServiceError | null, reply: any) => {
        answers.push(JSON.stringify(reply?.toObject?.() ?? null));
        if (error === null) return resolve(reply);
        const failure = failureOf(error);
        log.push(failure.message);
        answers.push(JSON.stringify(failure.properties ?? {}));
        reject(Object.assign(new Error(failure.message), failure));
      });
    });

  const of = (name: Class): Provider => {
    const { type, provider } = printed[name];
    const urn = `urn:pulumi:test::mobvibe::${type}::${name}`;
    const struct = (props: Props) => Struct.fromJavaScript({ ...props, __provider: provider } as never);
    const propsOf = (from: { toJavaScript(): unknown } | undefined): Props => {
      const { __provider, ...props } = (from?.toJavaScript() ?? {}) as Props;
      return props;
    };
    return {
      async check(news) {
        const request = new messages.CheckRequest();
        request.setUrn(urn);
        request.setOlds(struct({}));
        request.setNews(struct(news));
        return propsOf((await call('check', request)).getInputs());
      },
      async create(inputs) {
        const request = new messages.CreateRequest();
        request.setUrn(urn);
        request.setProperties(struct(inputs));
        const reply = await call('create', request);
        return { id: reply.getId(), outs: propsOf(reply.getProperties()) };
      },
      async diff(id, olds, news) {
        const request = new messages.DiffRequest();
        request.setUrn(urn);
        request.setId(id);
        request.setOlds(struct(olds));
        request.setNews(struct(news));
        const reply = await call('diff', request);
        const { DIFF_SOME, DIFF_NONE } = messages.DiffResponse.DiffChanges;
        if (![DIFF_SOME, DIFF_NONE].includes(reply.getChanges()))
          throw new Error('diff says neither yes nor no');
        return {
          changes: reply.getChanges() === DIFF_SOME,
          replaces: reply.getReplacesList(),
          deleteBeforeReplace: reply.getDeletebeforereplace(),
        };
      },
      async read(id, outs) {
        const request = new messages.ReadRequest();
        request.setUrn(urn);
        request.setId(id);
        request.setProperties(struct(outs));
        const reply = await call('read', request);
        return { id: reply.getId(), outs: propsOf(reply.getProperties()) };
      },
      async update(id, olds, news) {
        const request = new messages.UpdateRequest();
        request.setUrn(urn);
        request.setId(id);
        request.setOlds(struct(olds));
        request.setNews(struct(news));
        return propsOf((await call('update', request)).getProperties());
      },
      async delete(id, outs) {
        const request = new messages.DeleteRequest();
        request.setUrn(urn);
        request.setId(id);
        request.setProperties(struct(outs));
        await call('delete', request);
      },
    };
  };

  return {
    printed,
    of,
    log: () => log.join('\n'),
    answers: () => answers.join('\n'),
    async close() {
      client.close();
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** What the engine reads out of an error: the words, and the half-made object where there is one. */
function failureOf(error: ServiceError): Failure {
  const [details] = (error.metadata as Metadata).get('grpc-status-details-bin');
  if (details === undefined) return { message: error.details };
  const [any] = statusMessages.Status.deserializeBinary(details as Buffer).getDetailsList();
  const failed = messages.ErrorResourceInitFailed.deserializeBinary(any!.getValue_asU8());
  return {
    message: error.details,
    id: failed.getId(),
    properties: failed.getProperties()?.toJavaScript() as Props,
    reasons: failed.getReasonsList(),
  };
}
