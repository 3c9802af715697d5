import type { Clock } from './clock.ts';
import type { MachineSpec } from './engine.ts';
import type { Ids } from './ids.ts';
import type { AppRequest } from './rules/apps.ts';
import { machineEnvironment, machineFiles } from './rules/environment.ts';
import { appNameTaken, appNotFound } from './rules/errors.ts';
import { deniedBy } from './rules/policies.ts';
import type { Records } from './state/records.ts';
import type { AppRecord, MachineRecord } from './wire.ts';

/** All apps, with what belongs to them but machines. */
export class Apps {
  readonly #apps = new Map<string, AppRecord>();
  readonly #records: Records<AppRecord>;
  readonly #tools: { clock: Clock; ids: Ids };

  constructor(records: Records<AppRecord>, tools: { clock: Clock; ids: Ids }) {
    this.#records = records;
    this.#tools = tools;
    for (const app of records.load()) this.#apps.set(app.name, app);
  }

  /** Throws Fly's 422 when the name is taken; one that is being deleted still is. */
  create(request: AppRequest): AppRecord {
    if (this.#apps.has(request.name)) throw appNameTaken();
    const id = this.#tools.ids.hex(16);
    const app: AppRecord = {
      ...request,
      id,
      internal_numeric_id: Number.parseInt(id.slice(0, 7), 16),
      created_at: this.#tools.clock.now(),
      deleting: false,
      secrets: { version: 0, values: {} },
      network_policies: [],
      ips: [],
      deploy_tokens: [],
    };
    this.#apps.set(app.name, app);
    this.#records.save(app.name, app, { durable: true });
    return app;
  }

  /** Throws Fly's 404. */
  find(name: string): AppRecord {
    const app = this.#apps.get(name);
    if (!app || app.deleting) throw appNotFound(name);
    return app;
  }

  /** Without those that are being deleted. */
  all(): AppRecord[] {
    return [...this.#apps.values()].filter((app) => !app.deleting);
  }

  beingDeleted(): AppRecord[] {
    return [...this.#apps.values()].filter((app) => app.deleting);
  }

  /** Of an app that may be gone. */
  addressesOf(name: string): string[] {
    return this.#apps.get(name)?.ips.map(({ ip }) => ip) ?? [];
  }

  change(app: AppRecord, change: (app: AppRecord) => void): void {
    change(app);
    this.#records.save(app.name, app);
  }

  remove(name: string): void {
    this.#apps.delete(name);
    this.#records.remove(name);
  }

  /** What a machine's next boot takes from its app as it is now. */
  surroundings(machine: MachineRecord): Pick<MachineSpec, 'env' | 'files' | 'network'> {
    const app = this.#apps.get(machine.app);
    if (!app) throw appNotFound(machine.app);
    return {
      env: machineEnvironment(machine, app),
      files: machineFiles(machine, app),
      network: {
        name: app.network,
        ...deniedBy(app.network_policies, machine),
        flycast: app.ips.flatMap(({ network }) => network ?? []),
      },
    };
  }
}
