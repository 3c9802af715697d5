/** The TypeScript SDK of MobVibe Sandboxes. It needs nothing but Node. */
export type {
  ExecInfo,
  ExecResult,
  FileStat,
  Job,
  SaveResult,
  Session as SessionInfo,
  SessionEvent,
  Unsaved,
} from '../controller/api/schemas.ts';
export { type ClientErrorCode, MobVibeError } from './errors.ts';
export type { ExecHandle } from './exec-handle.ts';
export type { ExecOutcome } from './exec-outcome.ts';
export type { ExecOptions, Execs, StartOptions } from './execs.ts';
export type { Files, RangeOptions, WriteOptions } from './files.ts';
export type { ExecEnd, Offsets, OutputChunk, OutputName } from './follow.ts';
export type { JobOptions, Jobs, Page, PageOptions } from './jobs.ts';
export { MobVibe, type MobVibeOptions } from './mobvibe.ts';
export type { CreateOptions, OpenOptions, Session, Sessions, StopOptions, WaitOptions } from './sessions.ts';
export type { ExecStdin } from './stdin.ts';
export type { CallOptions } from './transport.ts';
export type { TreeOptions, TreeSummary } from './tree.ts';
