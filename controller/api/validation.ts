import type { FastifySchemaCompiler } from 'fastify';
import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { TLocalizedValidationError } from 'typebox/error';
import { Value } from 'typebox/value';
import { CodedError } from '../errors.ts';

/**
 * Checks every part of a request against its schema. Query strings and path parameters are text, so numbers are read out of
 * them first; a body is taken as it is. The error is already one of ours and names the field and its value.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const checker = Compile(schema);
  return (value) => {
    const candidate = httpPart === 'querystring' ? Value.Convert(schema, value) : value;
    if (checker.Check(candidate)) return { value: candidate };
    return { error: toCodedError(checker.Errors(candidate), candidate, httpPart ?? 'body') };
  };
};

function toCodedError(errors: TLocalizedValidationError[], value: unknown, part: string): CodedError {
  const first = errors[0]!;
  if (first.keyword === 'required') {
    const field = joinPath(first.instancePath, String(first.params.requiredProperties[0]));
    return new CodedError('invalid_request', `${field} is missing`, { field });
  }
  const field = joinPath(first.instancePath);
  if (first.keyword === 'boolean') {
    return new CodedError('invalid_request', `${field} is not a field of this request`, { field });
  }
  if (field === '') return new CodedError('invalid_request', `The ${part} ${first.message}`);
  const shown = show(valueAt(value, first.instancePath), field);
  const code = first.keyword === 'pattern' && isId(field, part) ? 'invalid_id' : 'invalid_request';
  return new CodedError(code, `${field} is ${shown}: ${expectation(errors)}`, { field });
}

/** What would have been right. The branches of a union fail one by one, so theirs are said together. */
function expectation(errors: TLocalizedValidationError[]): string {
  const { instancePath } = errors[0]!;
  const here = errors.filter((error) => error.instancePath === instancePath && error.keyword !== 'anyOf');
  const allowed = here.filter((error) => error.keyword === 'const');
  if (allowed.length > 0) {
    return `must be one of ${allowed.map((error) => JSON.stringify(error.params.allowedValue)).join(', ')}`;
  }
  return here.map((error) => error.message).join(' or ');
}

const ID_FIELDS = new Set(['id', 'exec_id', 'session_id']);
const isId = (field: string, part: string) => part === 'params' || ID_FIELDS.has(field);

function joinPath(pointer: string, last?: string): string {
  const steps = pointer.split('/').slice(1).map(unescapeStep);
  return (last === undefined ? steps : [...steps, last]).join('.');
}

function valueAt(value: unknown, pointer: string): unknown {
  const step = (at: unknown, key: string) => (at as Record<string, unknown> | undefined)?.[key];
  return pointer.split('/').slice(1).map(unescapeStep).reduce(step, value);
}

const unescapeStep = (step: string) => step.replaceAll('~1', '/').replaceAll('~0', '~');

/** Values of the environment are often secrets, so they are never repeated. */
function show(value: unknown, field: string): string {
  if (field.startsWith('env.')) return 'not acceptable';
  const text = JSON.stringify(value) ?? String(value);
  return text.length <= 100 ? text : `${text.slice(0, 100)}…`;
}
