import type { Config } from '../config.ts';
import type { Store } from '../store/index.ts';
import type { SandboxRow } from '../store/rows.ts';

/** What is known of a cell that sandboxes may be started in. */
export interface CellView {
  app: string;
  /** Sandboxes that live in it or are about to. */
  sandboxes: number;
  /** Its machines could be listed at the last look. */
  answers: boolean;
}

/**
 * Where the next sandbox starts: the cell with the fewest; of equals the first. A cell that did not answer is taken only when none did: it
 * would stay the emptiest and have all starts fail.
 */
export function chooseCell(cells: readonly CellView[]): string {
  const answering = cells.filter(({ answers }) => answers);
  const [first, ...others] = answering.length > 0 ? answering : cells;
  if (first === undefined) throw new Error('there is no cell to choose from');
  return others.reduce((least, cell) => (cell.sandboxes < least.sandboxes ? cell : least), first).app;
}

export interface CellsDeps {
  store: Pick<Store, 'declareCells' | 'forgetCell'>;
  config: Pick<Config, 'cellApps' | 'stack'>;
}

const ACTOR = 'lifecycle';

/**
 * The cells that this controller works for: those of its settings, in which sandboxes start, and those that have left them. A cell that
 * is named no more is closed: what lives in it is looked after until it ends, by its age at the latest, and then the cell is forgotten.
 */
export class Cells {
  readonly #deps: CellsDeps;
  #apps: readonly string[] | undefined;
  /** What lives in each cell, as far as this controller has seen: names of sandboxes, and of starts under way. */
  readonly #living = new Map<string, Set<string | symbol>>();
  readonly #silent = new Set<string>();

  constructor(deps: CellsDeps) {
    this.#deps = deps;
  }

  /** All cells, as they were known last. */
  get apps(): readonly string[] {
    return this.#apps ?? this.#deps.config.cellApps;
  }

  /** Tells the database which cells there are, and asks it for those that were there before. */
  async refresh(): Promise<readonly string[]> {
    const { store, config } = this.#deps;
    const cells = await store.declareCells(config.stack, config.cellApps, ACTOR);
    this.#apps = cells.map(({ app }) => app);
    return this.#apps;
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

  /** The cell for a start; to be given back when its row is there, or won't be. No sandbox is older than its cell's row. */
  async take(): Promise<{ app: string; done: () => void }> {
    if (this.#apps === undefined) await this.refresh();
    const app = chooseCell(
      this.#deps.config.cellApps.map((name) => ({
        app: name,
        sandboxes: this.size(name),
        answers: this.answers(name),
      })),
    );
    const start = Symbol('start');
    this.#livingIn(app).add(start);
    return { app, done: () => this.#livingIn(app).delete(start) };
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
    this.#apps = this.apps.filter((known) => known !== app);
    this.#living.delete(app);
    this.#silent.delete(app);
  }

  #livingIn(app: string): Set<string | symbol> {
    const known = this.#living.get(app) ?? new Set();
    this.#living.set(app, known);
    return known;
  }
}
