import { EventEmitter } from 'node:events';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { CodedError } from '../errors.ts';
import type { KnownCell, Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';
import type { Places } from './admission.ts';
import { pause } from './pause.ts';
import { planShares } from './shares.ts';

/** What is known of a cell that sandboxes may be started in. */
export interface CellView {
  app: string;
  /** Sandboxes that live in it or are about to. */
  sandboxes: number;
  /** Its machines could be listed at the last look. */
  answers: boolean;
  /** So long until it takes a start; 0: it takes one now. */
  retryAfterMs: number;
}

/**
 * Where the next sandbox starts: the cell with the fewest; of equals the first. One that is full is not taken, and where all are, the first
 * that won't be. A cell that did not answer is taken only when none did: it would stay the emptiest and have all starts fail.
 */
export function chooseCell(cells: readonly CellView[]): string {
  const answering = cells.filter(({ answers }) => answers);
  const [first, ...others] = answering.length > 0 ? answering : cells;
  if (first === undefined) throw new Error('there is no cell to choose from');
  const isBetter = (a: CellView, b: CellView) =>
    a.retryAfterMs === b.retryAfterMs ? a.sandboxes < b.sandboxes : a.retryAfterMs < b.retryAfterMs;
  return others.reduce((best, cell) => (isBetter(cell, best) ? cell : best), first).app;
}

export interface CellsDeps {
  store: Pick<Store, 'renewCells' | 'holdCell' | 'releaseCell' | 'leave' | 'forgetCell'>;
  config: Pick<Config, 'cellApps' | 'stack' | 'cellLeaseMs'>;
  log: Logger;
  /** Milliseconds that never go back, whatever the computer's clock is set to. */
  monotonic: () => number;
  /** Whether this controller reaches Fly; one that does not leaves its cells to those that do. Default: always. */
  able?: () => boolean;
  /** Told of the database's time with each renewal, Unix milliseconds; asked and answered are on the monotonic clock. */
  onDatabaseTime?: (databaseNow: number, askedAt: number, answeredAt: number) => void;
}

interface CellsEvents {
  /** This controller works for the cell from now on. */
  held: [app: string];
  /** Another controller works for the cell. That a lease ran out alone is no such news: then nobody may, and agents have nowhere else to go. */
  moved: [app: string];
}

interface Lease {
  token: number;
  /** On the monotonic clock. */
  until: number;
  over: AbortController;
}

const ACTOR = 'controller';
/** A lease is renewed so often within its time. */
const RENEWALS = 3;
/** What is known of others' cells is asked for anew where it matters, but no more often than this. */
const FRESH_MS = 1_000;
/** A shutdown waits no longer than this for a database that does not answer. */
const CLOSE_MS = 5_000;

/**
 * The cells that this controller works for, each under a lease that it renews: those of its settings, in which sandboxes start, and those
 * that have left them. A cell that is named no more is closed: what lives in it is looked after until it ends, by its age at the latest, and
 * then the cell is forgotten. Where there are other controllers, each holds its share; one that can't renew in time stops working for its
 * cells by itself, as another may have taken them over.
 */
export class Cells extends EventEmitter<CellsEvents> {
  readonly #deps: CellsDeps;
  readonly #leases = new Map<string, Lease>();
  /** What lives in each cell, as far as this controller has seen: names of sandboxes, and of starts under way. */
  readonly #living = new Map<string, Set<string | symbol>>();
  readonly #silent = new Set<string>();
  readonly #ended = new AbortController();
  #me: string | undefined;
  #known: readonly KnownCell[] = [];
  #askedAt = Number.NEGATIVE_INFINITY;
  #refreshing: Promise<void> | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #loop: Promise<void> | undefined;

  constructor(deps: CellsDeps) {
    super();
    this.setMaxListeners(0);
    this.#deps = deps;
  }

  /** Held now. */
  get apps(): string[] {
    return [...this.#leases.keys()].filter((app) => this.holds(app));
  }

  /** Every cell of the stack is held here: nothing is to be asked for elsewhere. */
  get hasAll(): boolean {
    return this.#known.length > 0 && this.#known.every(({ app }) => this.holds(app));
  }

  holds(app: string): boolean {
    const lease = this.#leases.get(app);
    return lease !== undefined && this.#deps.monotonic() < lease.until;
  }

  /** Aborted when this controller no longer works for the cell. */
  signal(app: string): AbortSignal {
    return this.#leases.get(app)?.over.signal ?? AbortSignal.abort(notHeld(app));
  }

  /** Carried by what is written on behalf of the cell. Throws `fenced` where it is not held. */
  token(app: string): number {
    if (!this.holds(app)) throw notHeld(app);
    return this.#leases.get(app)!.token;
  }

  /** Where the controller of this cell is reached; null while none works for it, or this one does. */
  async elsewhere(app: string): Promise<string | null> {
    if (!this.holds(app)) await this.#freshen();
    return this.#address(app);
  }

  /** Where a sandbox can be started, when not here: the controller of any open cell. */
  async elsewhereToStart(): Promise<string | null> {
    if (this.#open().length > 0) return null;
    await this.#freshen();
    if (this.#open().length > 0) return null;
    const addresses = this.#deps.config.cellApps.map((app) => this.#address(app));
    return addresses.find((address) => address !== null) ?? null;
  }

  isClosed(app: string): boolean {
    return !this.#deps.config.cellApps.includes(app);
  }

  /** Its machines could be listed at the last look; true before the first. */
  answers(app: string): boolean {
    return !this.#silent.has(app);
  }

  /** Sandboxes that live in it or are about to, as far as this controller has seen. */
  size(app: string): number {
    return this.#livingIn(app).size;
  }

  /** `address`: how other controllers reach this one. Call it when nobody else can be reached there any more. */
  start(address: string): void {
    this.#me = address;
    this.#loop ??= this.#run();
  }

  /** Gives all cells back, so that others take over without waiting; this controller takes none from now on. */
  async close(): Promise<void> {
    this.#ended.abort();
    const enough = new AbortController();
    await Promise.race([this.#giveAllBack(), pause(CLOSE_MS, enough.signal)]);
    enough.abort();
    clearTimeout(this.#expiry);
    for (const app of this.#leases.keys()) this.#end(app);
  }

  /**
   * The cell for a start, which has a place for it; to be given back when its row is there, or won't be. No sandbox is older than its
   * cell's row. Throws `no_capacity` where all cells are full.
   */
  async take(places: Places): Promise<{ app: string; done: () => void }> {
    if (this.#open().length === 0) await this.refresh();
    const open = this.#open();
    if (open.length === 0) throw new CodedError('cell_elsewhere', 'This controller works for no open cell');
    const view = (app: string): CellView => ({
      app,
      sandboxes: this.size(app),
      answers: this.answers(app),
      retryAfterMs: places.retryAfterMs(app),
    });
    const app = chooseCell(open.map(view));
    const place = places.admit(app);
    const start = Symbol('start');
    this.#livingIn(app).add(start);
    const done = () => {
      this.#livingIn(app).delete(start);
      place.release();
    };
    return { app, done };
  }

  changed(row: SandboxRow): void {
    if (row.state === 'gone') this.#livingIn(row.app).delete(row.name);
    else this.#livingIn(row.app).add(row.name);
  }

  /** A look at the whole cell. */
  seen(app: string, sandboxes: readonly SandboxRow[], answers: boolean): void {
    const starts = [...this.#livingIn(app)].filter((name) => typeof name === 'symbol');
    this.#living.set(app, new Set([...starts, ...sandboxes.map(({ name }) => name)]));
    if (answers) this.#silent.delete(app);
    else this.#silent.add(app);
  }

  /** Of a closed cell with neither sandboxes nor machines. */
  async forget(app: string): Promise<void> {
    const { store, config } = this.#deps;
    if (!(await store.forgetCell(app, config.stack, ACTOR))) return;
    this.#known = this.#known.filter((cell) => cell.app !== app);
    this.#living.delete(app);
    this.#silent.delete(app);
    this.#end(app);
  }

  /** Renews what is held, and takes and gives back what is to change hands. Whoever asks at the same time has the same answer. */
  refresh(): Promise<void> {
    if (this.#me === undefined || this.#ended.signal.aborted) return Promise.resolve();
    this.#refreshing ??= this.#refresh(this.#me).finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #run(): Promise<void> {
    const { config, log } = this.#deps;
    while (!this.#ended.signal.aborted) {
      await this.refresh().catch((error: unknown) => log.warn({ err: error }, 'cells could not be renewed'));
      await pause(config.cellLeaseMs / RENEWALS, this.#ended.signal);
    }
  }

  async #refresh(me: string): Promise<void> {
    const { store, config, monotonic, able = () => true, onDatabaseTime } = this.#deps;
    // The database counts from later on: here a lease ends no later than there.
    const asked = monotonic();
    const until = asked + config.cellLeaseMs;
    const held = Object.fromEntries([...this.#leases].map(([app, { token }]) => [app, token]));
    const { stack, cellApps: apps, cellLeaseMs: leaseMs } = config;
    const answer = await store.renewCells({
      ...{ stack, apps, holder: me, held },
      ...{ leaseMs, actor: ACTOR, able: able() },
    });
    const { cells, controllers } = answer;
    this.#known = cells;
    this.#askedAt = monotonic();
    onDatabaseTime?.(Date.parse(answer.now), asked, this.#askedAt);
    for (const [app, lease] of this.#leases) {
      const cell = cells.find((one) => one.app === app);
      if (cell?.holder === me && cell.token === lease.token && !cell.free) lease.until = until;
      else this.#end(app);
    }
    this.#expireInTime();
    for (const { app, holder, free } of cells) if (!free && holder !== me) this.emit('moved', app);

    // Open ones first: who holds any should have one that takes new sandboxes.
    const ordered = cells.toSorted((a, b) => Number(this.isClosed(a.app)) - Number(this.isClosed(b.app)));
    const { take, giveBack } = planShares({
      cells: ordered,
      controllers,
      able: answer.able,
      me,
      held: new Set(this.#leases.keys()),
    });
    for (const app of giveBack) await this.#giveBack(app);
    for (const app of take) {
      if (this.#ended.signal.aborted) return;
      await this.#hold(app, me);
    }
  }

  async #hold(app: string, me: string): Promise<void> {
    const { store, config, log, monotonic } = this.#deps;
    const until = monotonic() + config.cellLeaseMs;
    const cell = await store.holdCell(app, me, config.cellLeaseMs, ACTOR);
    if (cell === null) return;
    this.#known = this.#known.map((one) => (one.app === app ? { ...cell, free: false } : one));
    if (cell.holder !== me) return;
    this.#leases.set(app, { token: cell.token!, until, over: new AbortController() });
    this.#expireInTime();
    log.info({ app, token: cell.token }, 'cell is held');
    this.emit('held', app);
  }

  async #giveBack(app: string): Promise<void> {
    const { token } = this.#leases.get(app)!;
    // What is under way is cut off first: the next holder takes it up.
    this.#end(app);
    await this.#deps.store.releaseCell(app, token, ACTOR);
    this.#known = this.#known.map((cell) =>
      cell.app === app ? { ...cell, holder: null, free: true } : cell,
    );
    this.emit('moved', app);
  }

  async #giveAllBack(): Promise<void> {
    const { store, log } = this.#deps;
    await this.#loop;
    await this.#refreshing?.catch(() => undefined);
    try {
      await Promise.all([...this.#leases.keys()].map((app) => this.#giveBack(app)));
      if (this.#me !== undefined) await store.leave(this.#me);
    } catch (error) {
      log.warn({ err: error }, 'cells were not given back; their leases run out');
    }
  }

  /** Ends leases in the moment in which they run out, whatever else is under way. */
  #expireInTime(): void {
    clearTimeout(this.#expiry);
    const first = Math.min(...[...this.#leases.values()].map(({ until }) => until));
    if (!Number.isFinite(first)) return;
    this.#expiry = setTimeout(
      () => {
        for (const app of this.#leases.keys()) if (!this.holds(app)) this.#end(app);
        this.#expireInTime();
      },
      Math.max(1, first - this.#deps.monotonic()),
    );
    this.#expiry.unref();
  }

  #end(app: string): void {
    const lease = this.#leases.get(app);
    this.#leases.delete(app);
    if (lease === undefined) return;
    lease.over.abort(notHeld(app));
    this.#deps.log.info({ app, token: lease.token }, 'cell is held no more');
  }

  async #freshen(): Promise<void> {
    if (this.#deps.monotonic() - this.#askedAt >= FRESH_MS) await this.refresh();
  }

  #address(app: string): string | null {
    const cell = this.#known.find((one) => one.app === app);
    return cell === undefined || cell.free || cell.holder === this.#me ? null : cell.holder;
  }

  #open(): string[] {
    return this.#deps.config.cellApps.filter((app) => this.holds(app));
  }

  #livingIn(app: string): Set<string | symbol> {
    const known = this.#living.get(app) ?? new Set();
    this.#living.set(app, known);
    return known;
  }
}

function notHeld(app: string): CodedError {
  return new CodedError('fenced', `This controller does not work for the cell ${app}`);
}
