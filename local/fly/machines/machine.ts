import { sleep } from '../clock.ts';
import {
  type CheckState,
  EngineError,
  type MachineExecResult,
  type MachineExit,
  type RunningMachine,
} from '../engine.ts';
import type { Reachable } from '../proxy.ts';
import { bootOverride } from '../rules/config.ts';
import { execTimedOut, notRunning, unsupported } from '../rules/errors.ts';
import { type AfterExit, afterExit, exitEvent, type Intent, recentRestarts } from '../rules/exits.ts';
import { suspendRefusal } from '../rules/states.ts';
import { planStop, type StopRequest } from '../rules/stops.ts';
import type { ImageRef, MachineConfig, MachineRecord, MachineState } from '../wire.ts';
import type { MachineContext } from './context.ts';
import { discardLeftovers } from './discard.ts';
import { applyChange, type NewEvent } from './history.ts';

/**
 * One machine: its record, what runs of it, and the moves between its states. Whether a call is legal was decided before
 * (`rules/states.ts`); a call returns as soon as the move has begun, the rest follows by itself.
 *
 * What runs ends in one place, `#onExit`; the calls only say what they want of it (`#intent`) and signal it.
 */
export class Machine {
  readonly record: MachineRecord;
  readonly #context: MachineContext;
  #intent: Intent = 'run';
  #running: RunningMachine | undefined;
  /** The engine is booting it and has not answered yet. */
  #booting = false;
  /** Grows with every move, so that a delayed step notices that it was overtaken. */
  #moves = 0;
  #cancelKill: () => void = () => {};
  #oomKilled = false;
  readonly #watchers = new Set<() => void>();

  constructor(record: MachineRecord, context: MachineContext) {
    this.record = record;
    this.#context = context;
  }

  /** Calls back after every change until the returned function is called. */
  watch(onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  /** First boot of a new machine. */
  launch(): void {
    this.#goOn(this.#launch());
  }

  async #launch(): Promise<void> {
    if (this.#context.faults.takeStuck('created', this.record)) return;
    if (await this.#overtakenAfter(this.#context.timings.prepareMs)) return;
    await this.#boot('flyd');
  }

  start(): void {
    this.record.prepared = false;
    const suspended = ['suspended', 'suspending'].includes(this.record.state);
    this.#goOn(suspended && this.#running?.resume ? this.#resume(this.#running) : this.#boot('user'));
  }

  stop(request: StopRequest = {}): void {
    if (['stopping', 'stopped'].includes(this.record.state)) return;
    const suspended = ['suspended', 'suspending'].includes(this.record.state);
    this.#move('stopping', { type: 'stop', status: 'stopping', source: 'user' });
    // A suspended process takes no signal but the last: stopping throws its memory away.
    this.#end('stop', suspended ? { signal: 'SIGKILL' } : request);
  }

  restart(request: StopRequest & { force?: boolean } = {}): void {
    if (this.record.state === 'stopped') {
      this.#goOn(this.#boot('user', 'restart'));
      return;
    }
    this.#move('restarting', { type: 'restart', status: 'stopping', source: 'user' });
    this.#end('restart', request.force ? { signal: 'SIGKILL' } : request);
  }

  /** Throws 412 against Fly's rules and 501 where the engine cannot. */
  suspend(): void {
    const refused = suspendRefusal(this.record.config);
    if (refused) throw refused;
    const running = this.#running;
    if (!running?.suspend) throw unsupported(`suspend on the ${this.#context.engine.name} engine`);
    this.#move('suspending', { type: 'suspend', status: 'suspending', source: 'user' });
    this.#goOn(this.#finishSuspend(running));
  }

  /** None while it does not run. */
  checks(): CheckState[] {
    return (this.record.state === 'started' && this.#running?.checks?.()) || [];
  }

  /** Where this host reaches it while it runs; absent where it can't. */
  reachable(): Reachable | undefined {
    const address = this.record.state === 'started' ? this.#running?.address : undefined;
    return address === undefined ? undefined : { address, services: this.record.config.services ?? [] };
  }

  /** Its app was given an address, or it booted while that happened. */
  async followFlycast(): Promise<void> {
    await this.#running?.serveFlycast?.(this.#context.surroundings(this.record).network.flycast);
  }

  async signal(name: string): Promise<void> {
    if (!this.#running) throw notRunning(this.record.state);
    await this.#running.signal(name);
  }

  async exec(request: { command: string[]; stdin?: string; timeoutMs: number }): Promise<MachineExecResult> {
    if (!this.#running) throw notRunning(this.record.state);
    try {
      return await this.#running.exec(request);
    } catch (error) {
      if (error instanceof EngineError && error.code === 'exec_timeout') throw execTimedOut();
      if (error instanceof EngineError && error.code === 'not_running') throw notRunning(this.record.state);
      throw error;
    }
  }

  destroy(): void {
    if (['destroying', 'destroyed'].includes(this.record.state)) return;
    this.#move('destroying', { type: 'destroy', status: 'destroying', source: 'user' });
    this.#end('destroy', { signal: 'SIGKILL' });
  }

  /** A new version with another config. What ran is stopped and boots again with it, unless `skipLaunch`. */
  replace(config: MachineConfig, image_ref: ImageRef, { skipLaunch = false } = {}): void {
    const { record } = this;
    const rests = ['stopped', 'failed'].includes(record.state) || record.prepared;
    const version = this.#context.ids.ulid();
    Object.assign(record, { config, image_ref, instance_id: version, restarts: [] });
    record.versions = [{ version, user_config: config }, ...record.versions];
    if (rests) {
      this.#move(record.state, { type: 'update', status: 'replaced', source: 'user' });
      return;
    }
    const suspended = record.state === 'suspended';
    record.prepared = skipLaunch;
    this.#move('replacing', { type: 'update', status: 'replacing', source: 'user' });
    this.#end('replace', suspended ? { signal: 'SIGKILL' } : {});
  }

  /** A change that is no move: lease, metadata, cordon, host status. */
  amend(change: (record: MachineRecord) => void, event?: NewEvent): void {
    change(this.record);
    applyChange(this.record, { event }, this.#context);
    this.#publish();
  }

  /** Sudden death, as by a host's failure or the kernel for want of memory. */
  async die({ oomKilled = false } = {}): Promise<void> {
    this.#oomKilled = oomKilled;
    await this.signal('SIGKILL');
  }

  /** Goes on after local Fly was killed, and whatever ran with it. Returns what became of the machine, as a sentence. */
  async recover(): Promise<string> {
    const { record } = this;
    const was = record.state;
    const label = `Machine ${record.id} (${record.name}, app ${record.app})`;
    await this.#context.engine.discard(record.id);
    if (was === 'destroying') {
      this.#goOn(this.#finishDestroy());
      return `${label} was being destroyed when local Fly ended; that is finished now.`;
    }
    if (was === 'created') {
      this.launch();
      return `${label} had not booted yet when local Fly ended; it boots now.`;
    }
    if (was === 'stopping') this.#intent = 'stop';
    if (was === 'replacing') this.#intent = 'replace';
    const next = this.#settleExit({ exit_code: 137, signal: 'SIGKILL', oom_killed: false });
    return `${label} was ${was} and died with local Fly (exit code 137); ${fate[next]}.`;
  }

  #end(intent: Intent, request: StopRequest): void {
    this.#intent = intent;
    if (this.#running) this.#signalToEnd(this.#running, request);
    else if (!this.#booting) this.#settle(afterExit(intent, this.record.config, { exit_code: 0 }, [], 0));
  }

  #signalToEnd(running: RunningMachine, request: StopRequest): void {
    const { signal, graceMs } = planStop(request, this.record.config);
    this.#cancelKill();
    const send = (name: string) =>
      running.signal(name).catch((error) => this.#context.log(`${this.record.id}: ${name} failed: ${error}`));
    if (signal !== 'SIGKILL')
      this.#cancelKill = this.#context.clock.after(graceMs, () => void send('SIGKILL'));
    void send(signal);
  }

  async #boot(source: 'user' | 'flyd', type: 'start' | 'restart' = 'start'): Promise<void> {
    const { engine, faults, timings, surroundings } = this.#context;
    const { record } = this;
    this.#intent = 'run';
    this.#oomKilled = false;
    const stuck = faults.takeStuck('starting', record);
    this.#booting = !stuck;
    this.#move('starting', { type, status: 'starting', source });
    if (stuck) return;
    try {
      this.#running = await engine.start({
        id: record.id,
        app: record.app,
        name: record.name,
        image: record.config.image,
        digest: record.image_ref.digest,
        services: record.config.services ?? [],
        checks: record.config.checks ?? {},
        guest: record.config.guest,
        ...bootOverride(record.config.init),
        ...surroundings(record),
      });
    } catch (error) {
      this.#booting = false;
      this.#bootFailed(error);
      return;
    }
    this.#booting = false;
    const running = this.#running;
    void running.exited.then((exit) => this.#onExit(running, exit));
    this.#goOn(this.followFlycast());
    const wanted = this.#wanted();
    if (wanted !== 'run')
      return this.#signalToEnd(running, wanted === 'destroy' ? { signal: 'SIGKILL' } : {});
    if (await this.#overtakenAfter(timings.bootMs)) return;
    this.#move('started', { type: 'start', status: 'started', source: 'flyd' });
  }

  #bootFailed(error: unknown): void {
    if (this.#context.isClosing()) return;
    const reason = error instanceof Error ? error.message : String(error);
    this.#context.log(`Machine ${this.record.id} (${this.record.name}) could not be booted: ${reason}`);
    if (this.#intent === 'run') {
      this.#move('failed', { type: 'start', status: 'failed', source: 'flyd', request: { error: reason } });
    } else this.#settle(afterExit(this.#intent, this.record.config, { exit_code: 1 }, [], 0));
  }

  async #resume(running: RunningMachine): Promise<void> {
    this.#intent = 'run';
    this.#move('starting', { type: 'start', status: 'starting', source: 'user' });
    const move = this.#moves;
    await running.resume!();
    await sleep(this.#context.clock, this.#context.timings.resumeMs);
    if (this.#moves === move) this.#move('started', { type: 'start', status: 'started', source: 'flyd' });
  }

  async #finishSuspend(running: RunningMachine): Promise<void> {
    const move = this.#moves;
    await running.suspend!();
    await sleep(this.#context.clock, this.#context.timings.suspendMs);
    if (this.#moves === move)
      this.#move('suspended', { type: 'suspend', status: 'suspended', source: 'flyd' });
  }

  #onExit(running: RunningMachine, exit: MachineExit): void {
    if (this.#running !== running) return;
    this.#running = undefined;
    this.#cancelKill();
    if (this.#context.isClosing()) return;
    this.#settleExit({ ...exit, oom_killed: exit.oom_killed || this.#oomKilled });
  }

  #settleExit(exit: MachineExit): AfterExit {
    const { record } = this;
    const now = this.#context.clock.now();
    record.restarts = recentRestarts(record.restarts, now);
    const next = afterExit(this.#intent, record.config, exit, record.restarts, now);
    const request = {
      restart_count: record.restarts.length,
      exit_event: exitEvent(exit, this.#intent, next, now),
    };
    this.#settle(next, { type: 'exit', status: 'stopped', source: 'flyd', request });
    return next;
  }

  #settle(next: AfterExit, event?: NewEvent): void {
    if (next === 'destroy') {
      this.#move('destroying', event);
      this.#goOn(this.#finishDestroy());
    } else if (next === 'rest') {
      this.#move('stopped', event);
    } else if (next === 'restart_by_policy') {
      this.record.restarts.push(this.#context.clock.now());
      this.#move('restarting', event);
      this.#goOn(this.#restartByPolicy());
    } else if (this.record.prepared) {
      this.#move('created', event);
    } else {
      if (event) this.#move(this.record.state, event);
      this.#goOn(this.#boot('flyd'));
    }
  }

  async #restartByPolicy(): Promise<void> {
    if (await this.#overtakenAfter(this.#context.timings.restartMs)) return;
    await this.#boot('flyd', 'restart');
  }

  async #finishDestroy(): Promise<void> {
    const { clock, timings } = this.#context;
    await sleep(clock, timings.destroyMs);
    // Otherwise it stays `destroying`, as on Fly; the next start of local Fly tries again.
    if (!(await discardLeftovers(this.record.id, this.#context))) return;
    this.record.destroyed_at = clock.now();
    this.record.lease = undefined;
    this.#move('destroyed', { type: 'destroy', status: 'destroyed', source: 'flyd' });
    clock.after(timings.destroyedVisibleMs, () => this.#context.forget(this.record.id));
  }

  /** The rest of a move, behind the caller's back; what fails there has nobody else to be told to. */
  #goOn(rest: Promise<void>): void {
    rest.catch((error) => this.#context.log(`Machine ${this.record.id} (${this.record.state}): ${error}`));
  }

  /** Read through a method: the type checker cannot know that a call changed it during an await. */
  #wanted(): Intent {
    return this.#intent;
  }

  /** Waits and tells whether another move began meanwhile. */
  async #overtakenAfter(ms: number): Promise<boolean> {
    const move = this.#moves;
    await sleep(this.#context.clock, ms);
    return this.#moves !== move || this.#context.isClosing();
  }

  #move(state: MachineState, event?: NewEvent): void {
    this.#moves++;
    applyChange(this.record, { state, event }, this.#context);
    this.#publish();
  }

  #publish(): void {
    this.#context.save(this.record);
    for (const watcher of [...this.#watchers]) watcher();
  }
}

const fate: Record<AfterExit, string> = {
  rest: 'it is stopped',
  destroy: 'it is destroyed, as auto_destroy asks',
  restart_by_policy: 'it boots again by its restart policy',
  boot: 'it boots again',
};
