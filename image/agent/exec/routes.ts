import { constants } from 'node:os';
import { Fault } from '../fault.ts';
import { Lines } from '../http/lines.ts';
import type { Router } from '../http/router.ts';
import type { Gate } from '../seal/gate.ts';
import { follow } from './follow.ts';
import { parseExecSpec } from './spec.ts';
import type { ExecTable } from './table.ts';

export function execRoutes(router: Router, execs: ExecTable, gate: Gate): void {
  router
    .on('PUT', '/execs/:id', async (call) => {
      const { exec, created } = await execs.start(call.id, parseExecSpec(await call.json()));
      if (call.flag('follow')) await follow(exec, new Lines(call.stream), { stdout: 0, stderr: 0 });
      else call.reply(created ? 201 : 200, exec.info());
    })
    .on('GET', '/execs', (call) => call.reply(200, execs.list()))
    .on('GET', '/execs/:id', async (call) => call.reply(200, (await execs.get(call.id)).info()))
    .on('GET', '/execs/:id/output', async (call) => {
      const from = { stdout: call.count('stdout') ?? 0, stderr: call.count('stderr') ?? 0 };
      await follow(await execs.get(call.id), new Lines(call.stream), from);
    })
    .on('POST', '/execs/:id/stdin', async (call) => {
      const exec = await execs.live(call.id);
      const offset = call.count('offset') ?? 0;
      const received = await gate.admit(({ aside, signal }) =>
        aside(() => exec.stdin.write(call.body(), offset, call.flag('eof'), signal)),
      );
      call.reply(200, { received });
    })
    .on('POST', '/execs/:id/signal', async (call) => {
      const exec = await execs.live(call.id);
      exec.signal(checkSignal((await call.json()).signal));
      call.reply(204);
    });
}

function checkSignal(name: unknown): NodeJS.Signals {
  if (typeof name === 'string' && Object.hasOwn(constants.signals, name)) return name as NodeJS.Signals;
  throw new Fault('invalid_request', `signal must be a name such as SIGINT, it is ${JSON.stringify(name)}`, {
    field: 'signal',
  });
}
