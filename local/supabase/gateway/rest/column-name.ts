import { NotSupported } from '../http.ts';

/** A plain column name, quoted or not. Anything that PostgREST would read as more than a name is refused. */
export function columnName(text: string, where: string): string {
  const quoted = /^"((?:[^"\\]|\\.)+)"$/.exec(text)?.[1];
  if (quoted !== undefined) return quoted.replace(/\\(.)/g, '$1');
  if (/^[\p{L}\p{N}_$ -]+$/u.test(text)) return text.trim();
  throw new NotSupported(
    `${where} "${text}": only plain column names, no embeds, aliases, casts, paths or aggregates`,
  );
}
