/**
 * - `binaries_missing` there is no Postgres for this platform among the installed packages
 * - `folder_in_use` another live process runs Postgres on the folder
 * - `folder_unreachable` the user that Postgres runs as can't enter the folder
 * - `folder_damaged` the folder is not what we left there (another version, no password)
 * - `port_in_use` the port that was asked for is taken
 * - `init_failed`, `start_failed`, `stop_failed` Postgres said no; the message holds its output
 */
export type PostgresErrorCode =
  | 'binaries_missing'
  | 'folder_in_use'
  | 'folder_unreachable'
  | 'folder_damaged'
  | 'port_in_use'
  | 'init_failed'
  | 'start_failed'
  | 'stop_failed';

export class PostgresError extends Error {
  override readonly name = 'PostgresError';
  readonly code: PostgresErrorCode;

  constructor(code: PostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
