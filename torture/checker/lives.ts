import type { SessionEvent } from '../../client/index.ts';

/** One incarnation of a session, as the API's own events tell of it. Times are Unix milliseconds of the database's clock. */
export interface Life {
  incarnation: number;
  sandbox: string;
  plannedAt: number;
  machine?: string;
  readyAt?: number;
  /** The first event by which its machine is to go. */
  leavingAt?: number;
  /** The stop that was asked for last. */
  stoppingAt?: number;
  goneAt?: number;
  /** Said by the API: what was not saved is lost, and why. */
  loss?: { code: string; at: number };
  /** Its newest saved version, with the time of the commit. */
  commits: { version: number; at: number }[];
}

/** Pure; events as the API lists them, oldest first. */
export function livesOf(events: readonly SessionEvent[]): Life[] {
  const lives = new Map<string, Life>();
  for (const event of events) {
    const at = Date.parse(event.at);
    const incarnation = Number(/-(\d+)$/.exec(event.sandbox ?? '')?.[1]);
    if (event.sandbox === null || !(incarnation > 0)) continue;
    const life = lives.get(event.sandbox) ?? {
      ...{ incarnation, sandbox: event.sandbox, plannedAt: at, commits: [] },
    };
    lives.set(event.sandbox, life);
    const { sandbox, session, manifest } = event.data as Record<string, Record<string, unknown> | undefined>;
    if (typeof sandbox?.machine_id === 'string') life.machine = sandbox.machine_id;
    if (sandbox?.state === 'ready') {
      life.readyAt ??= at;
      // A stop that was cancelled.
      delete life.stoppingAt;
    }
    if (sandbox?.state === 'stopping') life.stoppingAt = at;
    if (sandbox?.state === 'destroying' || sandbox?.state === 'gone') life.leavingAt ??= at;
    if (sandbox?.state === 'gone') life.goneAt = at;
    if (manifest !== undefined) life.commits.push({ version: Number(manifest.version), at });
    const code = lossIn(event, session);
    if (code !== undefined) life.loss ??= { code, at };
  }
  return [...lives.values()].sort((a, b) => a.incarnation - b.incarnation);
}

/** Any of the ways in which the API says that files may be lost. */
function lossIn(event: SessionEvent, session: Record<string, unknown> | undefined): string | undefined {
  const failed = /^failed ([a-z_]+)/.exec(event.reason ?? '')?.[1];
  // A refusal of Fly's when the machine is to be destroyed loses nothing: that the sandbox leaves was decided before.
  if (failed !== undefined && ['sandbox.destroying', 'sandbox.gone', 'session.stopping'].includes(event.kind))
    return failed;
  if (/discard/.test(event.kind)) return 'discarded';
  const error = session?.error as { code?: unknown } | null | undefined;
  return typeof error?.code === 'string' ? error.code : undefined;
}

/** The incarnations that a request may have reached: those whose time it overlaps, where the answer does not say. */
export function reached(
  lives: readonly Life[],
  { sent, ended, incarnation }: { sent: number; ended: number; incarnation?: number },
): Life[] {
  if (incarnation !== undefined) return lives.filter((life) => life.incarnation === incarnation);
  return lives.filter(
    (life, index) =>
      life.readyAt !== undefined &&
      life.readyAt <= ended &&
      (life.goneAt ?? lives[index + 1]?.readyAt ?? Number.POSITIVE_INFINITY) >= sent,
  );
}
