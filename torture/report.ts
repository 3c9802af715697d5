import { shortest } from './checker/check.ts';
import type { Failure } from './checker/failure.ts';
import type { Entry, SessionHistory } from './history.ts';
import type { Report } from './run.ts';

const MOST_OF_A_KIND = 2;
/** Of one failure. */
const MOST_LINES = 40;

/** What was done, in one line. */
export function summary({ histories, machines, faults, failures, tookMs }: Report): string {
  const entries = histories.flatMap((history) => history.entries);
  const acked = entries.filter(({ kind, outcome }) => outcome === 'ack' && kind !== 'observe').length;
  const events = histories.flatMap((history) => history.events);
  const saves = events.filter(({ kind }) => kind === 'manifest.committed').length;
  const looks = entries.filter(({ kind }) => kind === 'observe').length;
  const words = [
    `${acked} acknowledged operations`,
    `${machines.length} machines`,
    `${saves} saves`,
    `${looks} looks`,
    `${faults.length} faults`,
    `${(tookMs / 1000).toFixed(0)} s`,
  ];
  return `${failures.length === 0 ? 'nothing wrong' : `${failures.length} FAILURES`}: ${words.join(', ')}`;
}

/** A few failures of each kind, with the seed and the least that shows them. */
export function describeFailures(report: Report): string {
  const shown = new Map<string, number>();
  const worstFirst = report.failures.toSorted((a, b) => rank(a) - rank(b));
  const few = worstFirst.filter(({ kind }) => {
    shown.set(kind, (shown.get(kind) ?? 0) + 1);
    return shown.get(kind)! <= MOST_OF_A_KIND;
  });
  const blocks = few.map((failure) => describe(report, failure));
  return [...blocks, `All ${report.failures.length}:\n${counts(report.failures)}`].join('\n\n');
}

export function counts(failures: readonly Failure[]): string {
  const byKind = new Map<string, number>();
  for (const { kind } of failures) byKind.set(kind, (byKind.get(kind) ?? 0) + 1);
  return [...byKind].map(([kind, count]) => `  ${kind}: ${count}`).join('\n');
}

function describe(report: Report, failure: Failure): string {
  const head = `${failure.kind} (seed ${report.seed})${failure.session === undefined ? '' : `, session ${failure.session}`}: ${failure.detail}`;
  const history = report.histories.find(({ session }) => session === failure.session);
  if (history === undefined) return head;
  const shown = shortest(history, failure, report.machines);
  const lines = [...shown.map(entryLine), ...eventLines(history, shown, report, failure)];
  lines.sort((a, b) => a.at - b.at);
  const told = lines.map(({ at, text }) => `  ${new Date(at).toISOString().slice(11, 23)} ${text}`);
  const many = told.length - MOST_LINES;
  if (many > 0) told.splice(MOST_LINES >> 1, many, `  … ${many} lines …`);
  return [head, ...told].join('\n');
}

const rank = ({ kind }: Failure) => (/^lost|gave_up|machine/.test(kind) ? 0 : /^ran/.test(kind) ? 2 : 1);

interface Line {
  at: number;
  text: string;
}

function entryLine(entry: Entry): Line {
  const { kind, n, sent, ended, outcome, code, ...rest } = entry as Entry & Record<string, unknown>;
  const told = { ...(rest as Record<string, unknown>) };
  // A look tells all that is there.
  delete told.seen;
  const words = Object.entries(told).map(([key, value]) => `${key}=${JSON.stringify(value)}`);
  const end = `${outcome}${code === undefined ? '' : ` ${code}`} after ${ended - sent} ms`;
  return { at: sent, text: `client  #${n} ${kind} ${words.join(' ')}: ${end}` };
}

/** The API's events and the faults of that time; those of jobs only where a job is shown. */
function eventLines(
  history: SessionHistory,
  entries: readonly Entry[],
  report: Report,
  failure: Failure,
): Line[] {
  const ofSandbox = history.events.filter(({ sandbox }) => sandbox === failure.subject).map(timeOf);
  const from =
    Math.min(...entries.map(({ sent }) => sent), ...ofSandbox, beginOf(history, failure.look)) - 500;
  const to = Math.max(...entries.map(({ ended }) => ended), ...ofSandbox);
  const jobs = entries.some(({ kind }) => kind === 'job');
  const events = history.events
    .filter(({ kind }) => jobs || !kind.startsWith('job.'))
    .map((event) => {
      const { kind, sandbox, reason, actor } = event;
      const why = reason === null ? '' : `: ${reason}`;
      return { at: timeOf(event), text: `event   ${kind} ${sandbox ?? ''} by ${actor}${why}` };
    });
  const faults = report.faults.map((fault) => ({
    at: fault.from,
    text: `fault   ${fault.kind} (${fault.target}) for ${fault.to - fault.from} ms`,
  }));
  return [...events, ...faults].filter(({ at }) => at >= from && at <= to);
}

/** What a look finds was made in the sandbox before, at the latest. */
function beginOf({ session, entries, events }: SessionHistory, look: number | undefined): number {
  const seen = entries.find(({ n }) => n === look);
  if (seen?.kind !== 'observe') return Number.POSITIVE_INFINITY;
  const first = events.find(({ sandbox }) => sandbox === `s-${session}-${seen.incarnation - 1}`);
  return first === undefined ? Number.POSITIVE_INFINITY : timeOf(first);
}

const timeOf = ({ at }: { at: string }) => Date.parse(at);
