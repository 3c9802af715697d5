import type { Apps } from '../apps.ts';
import type { CheckState, Engine } from '../engine.ts';
import type { MachineRequest } from '../rules/create.ts';
import { failedPrecondition, invalidArgument, machineNameTaken, machineNotFound } from '../rules/errors.ts';
import { imageRef } from '../rules/images.ts';
import { refusal } from '../rules/states.ts';
import type { Records } from '../state/records.ts';
import type { AppRecord, ImageRef, MachineRecord } from '../wire.ts';
import type { MachineContext } from './context.ts';
import { newLease } from './lease.ts';
import { Machine } from './machine.ts';
import { newMachineRecord } from './newborn.ts';

type Surroundings = Omit<MachineContext, 'save' | 'forget' | 'surroundings'> & {
  /** A machine of the app has changed. */
  onChange(app: string): void;
};

/** All machines of all apps. */
export class Fleet {
  readonly #machines = new Map<string, Machine>();
  readonly #records: Records<MachineRecord>;
  readonly #context: MachineContext;

  constructor(apps: Apps, records: Records<MachineRecord>, surroundings: Surroundings) {
    this.#records = records;
    this.#context = {
      ...surroundings,
      save: (record, options) => {
        records.save(record.id, record, options);
        surroundings.onChange(record.app);
      },
      forget: (id) => this.#forget(id),
      surroundings: (record) => apps.surroundings(record),
    };
  }

  /** Reads what was kept and goes on from there. Returns what became of each machine that was not at rest. */
  async recover(): Promise<string[]> {
    const { clock, timings } = this.#context;
    const sentences: string[] = [];
    for (const record of this.#records.load()) {
      const machine = new Machine(record, this.#context);
      this.#machines.set(record.id, machine);
      if (record.state === 'destroyed') {
        const shownMs = clock.now() - (record.destroyed_at ?? 0);
        clock.after(Math.max(0, timings.destroyedVisibleMs - shownMs), () => this.#forget(record.id));
      } else if (!isAtRest(record)) {
        sentences.push(await machine.recover());
      }
    }
    return sentences;
  }

  /** Throws Fly's 404. */
  find(app: string, id: string): Machine {
    const machine = this.#machines.get(id);
    if (machine?.record.app !== app) throw machineNotFound(id);
    return machine;
  }

  byId(id: string): Machine {
    const machine = this.#machines.get(id);
    if (!machine) throw machineNotFound(id);
    return machine;
  }

  get engine(): Pick<Engine, 'name' | 'serves' | 'writesFiles'> {
    return this.#context.engine;
  }

  /** Of a machine that may be gone meanwhile. */
  checksOf(id: string): CheckState[] {
    return this.#machines.get(id)?.checks() ?? [];
  }

  all(): Machine[] {
    return [...this.#machines.values()];
  }

  ofApp(app: string): Machine[] {
    return this.all().filter(({ record }) => record.app === app);
  }

  /** Resolves with a machine in `created` whose boot goes on behind. */
  async create(app: AppRecord, request: MachineRequest): Promise<Machine> {
    this.#refuseTakenName(app.name, request.name);
    if ((request.minSecretsVersion ?? 0) > app.secrets.version) {
      throw failedPrecondition(
        `min_secrets_version ${request.minSecretsVersion} is above the app's ${app.secrets.version}`,
      );
    }
    const reference = await this.imageRef(request.config.image);
    this.#refuseTakenName(app.name, request.name); // Another create may have come first while the image was looked up.
    const machine = new Machine(newMachineRecord(app, request, reference, this.#context), this.#context);
    const { record } = machine;
    if (request.leaseTtlSeconds) record.lease = newLease(record, request.leaseTtlSeconds, '', this.#context);
    this.#context.save(record, { durable: true });
    this.#machines.set(record.id, machine);
    if (!record.prepared) machine.launch();
    return machine;
  }

  /** Throws 400 with the engine's reason. */
  async imageRef(image: string): Promise<ImageRef> {
    const resolved = await this.#context.engine.resolveImage(image);
    if ('error' in resolved) throw invalidArgument(`could not resolve image "${image}": ${resolved.error}`);
    return imageRef(image, resolved.digest);
  }

  /** Destroys the app's machines and calls back when nothing of them is left. */
  destroyApp(app: string, onGone: () => void): void {
    const machines = this.ofApp(app);
    const checkGone = () => {
      if (machines.some(({ record }) => record.state !== 'destroyed')) return;
      for (const stop of unwatch) stop();
      for (const { record } of machines) this.#forget(record.id);
      onGone();
    };
    const unwatch = machines.map((machine) => machine.watch(checkGone));
    for (const machine of machines) machine.destroy();
    checkGone();
  }

  /** Stops whatever runs or is about to; resolves when all is at rest. */
  async stopAll(): Promise<void> {
    await Promise.all(this.all().map(stopUntilAtRest));
  }

  #refuseTakenName(app: string, name: string | undefined): void {
    const holder = this.ofApp(app).find(({ record }) => record.name === name && record.state !== 'destroyed');
    if (name && holder) throw machineNameTaken(holder.record.id, name);
  }

  #forget(id: string): void {
    this.#machines.delete(id);
    this.#records.remove(id);
  }
}

/** Nothing of it runs and nothing is under way. */
function isAtRest({ state, prepared }: MachineRecord): boolean {
  return ['stopped', 'failed', 'destroyed'].includes(state) || (state === 'created' && prepared);
}

function stopUntilAtRest(machine: Machine): Promise<void> {
  const { record } = machine;
  return new Promise((resolve) => {
    const step = () => {
      if (isAtRest(record)) {
        unwatch();
        resolve();
      } else if (record.state !== 'stopping' && !refusal('stop', record)) machine.stop();
    };
    const unwatch = machine.watch(step);
    step();
  });
}
