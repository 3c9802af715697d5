import Type, { type TSchema } from 'typebox';
import { PROBLEM_JSON } from './problems.ts';
import { NDJSON } from './proxy.ts';
import { Problem } from './schemas.ts';

/**
 * How answers are described in the OpenAPI document. To the handlers' types they say nothing: what is sent is typed where it is
 * made (present.ts) or comes from the agent.
 */
type Answers = Record<string, unknown>;

const failure: Answers = {
  default: { description: 'An error', content: { [PROBLEM_JSON]: { schema: Problem } } },
};

export const json = (schema: TSchema, description: string, status = 200): Answers => ({
  [status]: { description, content: { 'application/json': { schema } } },
  ...failure,
});

export const createdOrFound = (schema: TSchema): Answers => ({
  ...json(schema, 'It exists already'),
  ...json(schema, 'It was made now', 201),
});

export const lines = (schema: TSchema, description: string): Answers => ({
  200: { description, content: { [NDJSON]: { schema } } },
  ...failure,
});

export const bytes = (description: string, type = 'application/octet-stream'): Answers => ({
  200: {
    description,
    content: { [type]: { schema: Type.String({ format: 'binary' }) } },
  },
  ...failure,
});

export const nothing = (description: string): Answers => ({
  204: { description, type: 'null' as const },
  ...failure,
});
