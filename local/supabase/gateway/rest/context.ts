import type { IncomingMessage } from 'node:http';
import type { Role } from '../access.ts';
import type { Catalog } from './catalog.ts';
import type { Statement } from './sql.ts';

export interface RestRequest {
  message: IncomingMessage;
  role: Role;
  /** What follows `/rest/v1/`. */
  path: string;
  params: URLSearchParams;
}

/** What a call needs of the database: what the cache knows of the schema, and statements run with the caller's rights. */
export interface RestContext {
  catalog(): Catalog;
  /** One statement in a transaction of its own. `check` may refuse the result before it is committed. */
  run<Row>(
    access: { role: Role; readOnly: boolean },
    statement: Statement,
    check?: (row: Row) => void,
  ): Promise<Row>;
}
