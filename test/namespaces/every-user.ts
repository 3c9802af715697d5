import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, test } from 'vitest';
import { HOST_USERS, type HostUser, makeStage, type OpenUser, type Stage } from './host-users.ts';
import { RemoteEngine, type RemoteError, type RemoteMachine, type Wanted } from './remote-engine.ts';

/** Node inside a machine. */
export const NODE = '/opt/node/bin/node';

let last = 0;

/** One of the users of this host, an engine that runs as that user, and a machine of it. */
export class TestHost {
  readonly user: OpenUser;
  readonly stage: Stage;
  readonly engine: RemoteEngine;
  /** Does nothing. Several tests use it, so each must leave it as it was. */
  readonly idle: RemoteMachine;

  /** Rejects with `unsupported_host` where this user can have no machines here. */
  static async open(hostUser: HostUser): Promise<TestHost> {
    const user = hostUser.open();
    const stage = makeStage(user.uid);
    try {
      const engine = await RemoteEngine.start([...user.become, ...stage.engine({})]);
      return new TestHost(user, stage, engine, await engine.machine(TestHost.newId()));
    } catch (error) {
      user.close();
      stage.remove();
      throw error;
    }
  }

  static newId(): string {
    return `m${(++last).toString().padStart(13, '0')}`;
  }

  private constructor(user: OpenUser, stage: Stage, engine: RemoteEngine, idle: RemoteMachine) {
    this.user = user;
    this.stage = stage;
    this.engine = engine;
    this.idle = idle;
  }

  /** A further engine, with a state folder of its own below the stage. */
  startEngine(stateName: string, options: object = {}): Promise<RemoteEngine> {
    const command = this.stage.engine({ stateDir: this.stateDir(stateName), ...options });
    return RemoteEngine.start([...this.user.become, ...command]);
  }

  stateDir(name: string): string {
    return join(this.stage.dir, 'state', name);
  }

  /** Runs `use` with a machine that is killed afterwards. */
  async withMachine<T>(wanted: Wanted, use: (machine: RemoteMachine) => Promise<T>): Promise<T> {
    const machine = await this.engine.machine(TestHost.newId(), wanted);
    try {
      return await use(machine);
    } finally {
      await machine.signal('SIGKILL').catch(() => undefined);
      await machine.exited;
      await this.engine.call('discard', machine.id);
    }
  }

  async close(): Promise<void> {
    await this.engine.close();
    this.user.close();
    this.stage.remove();
  }
}

/** Defines tests for each kind of host user. `host` may be called within tests only. */
export function asEveryUser(define: (host: () => TestHost, kind: HostUser['kind']) => void): void {
  describe.each(HOST_USERS)('as $name', (hostUser) => {
    const { missing, kind } = hostUser;
    if (missing) {
      test('machines', ({ skip }) => skip(missing));
      return;
    }
    let host: TestHost | undefined;
    let refused: string | undefined;
    beforeAll(async () => {
      host = await TestHost.open(hostUser).catch((error: RemoteError) => {
        if (error.code !== 'unsupported_host') throw error;
        refused = error.message;
        return undefined;
      });
    });
    beforeEach(({ skip }) => skip(refused !== undefined, refused));
    afterAll(() => host?.close());
    define(() => host!, kind);
  });
}
