import type { FastifyInstance } from 'fastify';
import type { Core } from '../core.ts';
import { waitForState } from '../machines/waiting.ts';
import { splitCommand } from '../rules/commands.ts';
import { parseConfigDuration, parseQueryDuration } from '../rules/durations.ts';
import { invalidArgument } from '../rules/errors.ts';
import {
  bodyObject,
  type JsonObject,
  optionalInteger,
  optionalString,
  optionalStrings,
} from '../rules/json.ts';
import { parseSignal } from '../rules/signals.ts';
import type { StopRequest } from '../rules/stops.ts';
import { parseWait, type WaitQuery } from '../rules/waits.ts';
import { changeableMachineOf, machineFor, machineOf, queryOf } from './request.ts';

const maxExecSeconds = 60;
const maxStopMs = 300_000;
const ok = { ok: true };

export function lifecycleRoutes(server: FastifyInstance, core: Core): void {
  const one = '/v1/apps/:app/machines/:machine';

  server.post(`${one}/start`, { config: { action: 'machine.start' } }, async (request) => {
    const machine = machineFor('start', core, request);
    const previous_state = machine.record.state;
    machine.start();
    return { previous_state, migrated: false, new_host: '' };
  });

  server.post(`${one}/stop`, { config: { action: 'machine.stop' } }, async (request) => {
    const stop = parseStop(bodyObject(request.body, 'main.stopRequest'));
    machineFor('stop', core, request).stop(stop);
    return ok;
  });

  server.post(`${one}/suspend`, { config: { action: 'machine.suspend' } }, async (request) => {
    machineFor('suspend', core, request).suspend();
    return ok;
  });

  server.post(`${one}/restart`, { config: { action: 'machine.restart' } }, async (request) => {
    const { timeout, signal, force_stop } = queryOf(request);
    machineFor('restart', core, request).restart({
      signal: signal ? parseSignal(signal, 'signal', 'stop') : undefined,
      timeoutMs: timeout ? stopTimeout(timeout, parseQueryDuration(timeout)) : undefined,
      force: force_stop === 'true',
    });
    return ok;
  });

  server.post(`${one}/signal`, { config: { action: 'machine.signal' } }, async (request) => {
    const { signal } = bodyObject(request.body, 'main.signalRequest');
    const name = parseSignal(signal, 'signal', 'any');
    await machineFor('signal', core, request).signal(name);
    return ok;
  });

  for (const verb of ['cordon', 'uncordon'] as const) {
    server.post(`${one}/${verb}`, { config: { action: 'machine.cordon' } }, async (request) => {
      const machine = changeableMachineOf(core, request);
      const event = { type: verb, status: machine.record.state, source: 'user' } as const;
      machine.amend((record) => {
        record.cordoned = verb === 'cordon';
      }, event);
      return ok;
    });
  }

  server.post(`${one}/exec`, { config: { action: 'machine.exec' } }, async (request) => {
    const exec = parseExec(bodyObject(request.body, 'main.execRequest'));
    return machineFor('exec', core, request).exec(exec);
  });

  server.get(`${one}/wait`, { config: { action: 'machine.wait' } }, async (request, reply) => {
    const machine = machineOf(core, request);
    const wait = parseWait(request.query as WaitQuery);
    const gone = new AbortController();
    reply.raw.once('close', () => gone.abort());
    await waitForState(machine, wait, core.clock, AbortSignal.any([gone.signal, core.closing]));
    const { state, instance_id, events } = machine.record;
    return { ok: true, state, event_id: events[0]?.id ?? '', version: instance_id };
  });
}

function parseStop(body: JsonObject): StopRequest {
  const { signal, timeout } = body;
  return {
    signal:
      signal === undefined || signal === null || signal === ''
        ? undefined
        : parseSignal(signal, 'signal', 'stop'),
    timeoutMs:
      timeout === undefined || timeout === null
        ? undefined
        : stopTimeout(timeout, parseConfigDuration(timeout)),
  };
}

function stopTimeout(given: unknown, ms: number | null): number {
  if (ms !== null && ms <= maxStopMs) return ms;
  throw invalidArgument(`timeout: ${JSON.stringify(given)} is not a duration up to 300s`);
}

function parseExec(body: JsonObject): { command: string[]; stdin?: string; timeoutMs: number } {
  const command = optionalStrings(body, 'command') ?? splitCommand(optionalString(body, 'cmd') ?? '');
  if (!command[0]) throw invalidArgument('command: nothing to run');
  const seconds = optionalInteger(body, 'timeout') || maxExecSeconds;
  if (seconds < 1 || seconds > maxExecSeconds) {
    throw invalidArgument(`timeout: ${seconds} is not from 1 to ${maxExecSeconds} seconds`);
  }
  return { command, stdin: optionalString(body, 'stdin'), timeoutMs: seconds * 1_000 };
}
