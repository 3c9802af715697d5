import type { Caller, CallOptions } from './call.ts';
import { createMachine } from './create.ts';
import { gone } from './gone.ts';
import { getMachine, type ListMachinesOptions, listMachines } from './look.ts';
import { type ChangeOptions, onMachine } from './on-machine.ts';
import { machine, nothing, object } from './replies.ts';
import type {
  CreateMachineRequest,
  ExecReply,
  ExecRequest,
  Machine,
  StartReply,
  UpdateMachineRequest,
  WaitableState,
  WaitReply,
} from './types.ts';
import { checkExec, checkGrace, checkSignal, checkUpdate } from './validate.ts';
import { type WaitOptions, waitForState } from './wait.ts';

const EXEC_GRACE_MS = 10_000;
const UPDATE_TIMEOUT_MS = 60_000;
const EXEC_DEFAULT_S = 30;

/** Fly docs, "machines/api/machines-resource". `app` is the app's name, `id` the machine's id. */
export function machineCalls(caller: Caller) {
  const send = onMachine(caller);

  return {
    /**
     * All machines of the app in one answer. An empty list is no proof that there are none (Fly's incident of
     * 2026-04-28): look twice before you act on it.
     */
    listMachines: (app: string, options: ListMachinesOptions = {}): Promise<Machine[]> =>
      listMachines(caller, app, options),

    /** A destroyed machine is found for a while, with state `destroyed`; then it is `not_found`. */
    getMachine: (app: string, id: string, options: CallOptions = {}): Promise<Machine> =>
      getMachine(caller, app, id, options),

    /**
     * Creates the machine of this name, or finds it where that has been done already: safe to repeat. Default
     * 60 s. Resolves while the machine still boots. See `create.ts` for what happens when answers are lost;
     * `unknown_outcome` means: look again later.
     */
    createMachine: (
      app: string,
      request: CreateMachineRequest,
      options: CallOptions = {},
    ): Promise<Machine> => createMachine(caller, app, request, options),

    /**
     * Replaces the whole configuration; a running machine restarts. Never repeated by itself. Default 60 s.
     */
    async updateMachine(
      app: string,
      id: string,
      request: UpdateMachineRequest,
      options: ChangeOptions = {},
    ): Promise<Machine> {
      checkUpdate('updateMachine', request);
      const spec = {
        name: 'updateMachine',
        effect: 'once',
        method: 'POST',
        body: request,
        read: machine,
      } as const;
      return send(
        app,
        id,
        { ...spec, timeoutMs: UPDATE_TIMEOUT_MS, attemptTimeoutMs: UPDATE_TIMEOUT_MS },
        options,
      );
    },

    /** A `created` machine boots by itself: not for that, except after `skip_launch`. */
    startMachine: (app: string, id: string, options: ChangeOptions = {}): Promise<StartReply> =>
      send(
        app,
        id,
        {
          name: 'startMachine',
          effect: 'repeatable',
          method: 'POST',
          under: '/start',
          read: object<StartReply>,
        },
        options,
      ),

    /**
     * Resolves before the machine has stopped: wait for it. `grace` is a duration such as `10s`, until
     * SIGKILL.
     */
    async stopMachine(
      app: string,
      id: string,
      options: ChangeOptions & { stopSignal?: string; grace?: string } = {},
    ): Promise<void> {
      const { stopSignal, grace } = options;
      if (stopSignal !== undefined) checkSignal('stopMachine', stopSignal, 'stop signal');
      if (grace !== undefined) checkGrace('stopMachine', 'grace', grace);
      const body =
        stopSignal === undefined && grace === undefined ? undefined : { signal: stopSignal, timeout: grace };
      const spec = { name: 'stopMachine', effect: 'repeatable', method: 'POST', under: '/stop' } as const;
      return send(app, id, { ...spec, body, read: nothing }, options);
    },

    /** Never repeated by itself: a second restart is one. */
    async restartMachine(
      app: string,
      id: string,
      options: ChangeOptions & { stopSignal?: string; grace?: string; force?: boolean } = {},
    ): Promise<void> {
      const { stopSignal, grace, force } = options;
      if (stopSignal !== undefined) checkSignal('restartMachine', stopSignal, 'stop signal');
      if (grace !== undefined) checkGrace('restartMachine', 'grace', grace);
      const query = { signal: stopSignal, timeout: grace, force_stop: force };
      const spec = { name: 'restartMachine', effect: 'once', method: 'POST', under: '/restart' } as const;
      return send(app, id, { ...spec, query, read: nothing }, options);
    },

    /** At most 2 GB of memory, no swap, no schedule (Fly docs, "reference/suspend-resume"). */
    suspendMachine: (app: string, id: string, options: ChangeOptions = {}): Promise<void> =>
      send(
        app,
        id,
        { name: 'suspendMachine', effect: 'once', method: 'POST', under: '/suspend', read: nothing },
        options,
      ),

    /** To the main process, e.g. `SIGTERM`. */
    async signalMachine(app: string, id: string, signal: string, options: ChangeOptions = {}): Promise<void> {
      checkSignal('signalMachine', signal, 'signal');
      const spec = { name: 'signalMachine', effect: 'once', method: 'POST', under: '/signal' } as const;
      return send(app, id, { ...spec, body: { signal }, read: nothing }, options);
    },

    /**
     * Resolves also when the machine is already gone. Without `force` only a machine at rest can be
     * destroyed, else it is a `precondition`. Fly destroys in the background, and one on an unreachable host
     * can come back: wait for `destroyed`.
     */
    async destroyMachine(
      app: string,
      id: string,
      options: ChangeOptions & { force?: boolean } = {},
    ): Promise<void> {
      const query = { force: options.force };
      const spec = {
        name: 'destroyMachine',
        effect: 'repeatable',
        method: 'DELETE',
        query,
        read: nothing,
      } as const;
      return gone(send(app, id, spec, options));
    },

    /** See `wait.ts`: loops over Fly's 60 s, default 60 s in all. */
    waitForState: (
      app: string,
      id: string,
      state: WaitableState | WaitableState[],
      options: WaitOptions = {},
    ): Promise<WaitReply> => waitForState(caller, app, id, state, options),

    /**
     * Runs a short command as root, without a shell; its exit code is in the reply. Never repeated by itself.
     * Default: the command's timeout and 10 s.
     */
    async exec(
      app: string,
      id: string,
      request: ExecRequest,
      options: ChangeOptions = {},
    ): Promise<ExecReply> {
      checkExec('exec', request);
      const timeout = request.timeout ?? EXEC_DEFAULT_S;
      const answeredInMs = timeout * 1000 + EXEC_GRACE_MS;
      const spec = { name: 'exec', effect: 'once', method: 'POST', under: '/exec', read: execReply } as const;
      const times = { timeoutMs: answeredInMs, attemptTimeoutMs: answeredInMs };
      return send(app, id, { ...spec, ...times, body: { ...request, timeout } }, options);
    },
  };
}

/** Go leaves out what is zero or empty. */
function execReply(body: unknown): ExecReply {
  return { exit_code: 0, exit_signal: 0, stdout: '', stderr: '', ...object<Partial<ExecReply>>(body) };
}
