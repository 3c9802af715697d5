import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TIMES, World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await World.start();
});
afterEach(() => world.closeAll());
afterAll(() => world.end());

const status = async (id: string) => (await world.store.getSession(id)).status;
const kinds = async (id: string) =>
  (await world.store.listSessionEvents(id, { limit: 100 })).map(({ kind }) => kind);

async function open(id: string) {
  const app = await world.app();
  const controller = await world.controller(app, { times: { ...TIMES, silenceMs: 100 } });
  await controller.manager.createSandbox({ sessionId: id });
  return { app, controller, ...controller, ...world.running(`s-${id}-1`) };
}

describe('an agent that answers no more', () => {
  it('makes its session unresponsive: calls fail at once, and it is ready again when the agent dials', async () => {
    const { agent, manager, machine } = await open('silent');
    const inside = world.running('s-silent-1').inside;
    agent.stop();
    await world.until(async () => (await status('silent')) === 'unresponsive');
    await expect(manager.execCommand('silent', 'echo no')).rejects.toMatchObject({
      code: 'agent_unresponsive',
      kind: 'fault',
    });
    await expect(manager.createSandbox({ sessionId: 'silent' })).rejects.toMatchObject({
      code: 'agent_unresponsive',
    });
    world.redial(machine, inside);
    await world.until(async () => (await status('silent')) === 'ready');
    expect(await manager.execCommand('silent', 'echo yes')).toMatchObject({ stdout: 'yes\n' });
    expect(await kinds('silent')).toEqual([
      ...['session.created', 'sandbox.created', 'sandbox.ready'],
      ...['sandbox.unresponsive', 'sandbox.responsive'],
    ]);
  });

  it('is found by a controller that comes later', async () => {
    const { app, agent, machine, inside, controller } = await open('found');
    agent.stop();
    await world.close(controller);
    await world.controller(app, {
      env: { MOBVIBE_CLEANUP_INTERVAL_MS: '100' },
      times: { ...TIMES, silenceMs: 100 },
    });
    await world.until(async () => (await status('found')) === 'unresponsive');
    world.redial(machine, inside);
    await world.until(async () => (await status('found')) === 'ready');
  });

  it('is told of when init had to restart it', async () => {
    const { agent, machine, inside } = await open('again');
    agent.stop();
    world.redial(machine, inside, { 'x-mobvibe-boot': 'boot-2', 'x-mobvibe-restarted': 'out_of_memory' });
    await world.until(async () => (await kinds('again')).includes('sandbox.agent_restarted'));
    const events = await world.store.listSessionEvents('again', { limit: 100 });
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'sandbox.agent_restarted', reason: 'out_of_memory' }),
    );
  });
});
