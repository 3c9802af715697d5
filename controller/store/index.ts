export type { KnownCell } from './cells.ts';
export { connectDatabase, type Database } from './database.ts';
export type { ExecRow, NewExec, RegisteredExec } from './execs.ts';
export { type Claim, KEPT_OUTPUT_BYTES, type NewJob, type OutputChunk } from './jobs.ts';
export type { NewManifest } from './manifests.ts';
export type { PageQuery } from './reading.ts';
export type { Failure, Fenced, LostFiles, Opened, StopOptions } from './sandboxes.ts';
export { createStore, type Store } from './store.ts';
