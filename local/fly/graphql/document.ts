/** What a GraphQL document asks for. */
export interface Asked {
  /** Of the first and only field at the root: `app`, `allocateIpAddress`. */
  field: string;
  /** Its alias, or its name: the key of the answer. */
  as: string;
  /** Names of all fields below it. */
  below: string[];
}

/**
 * Reads the documents that flyctl sends, which have one field at the root, arguments that are variables or plain values, and no
 * fragments. No whole parser: what else a document holds becomes a field that nobody knows. Null for what is no document.
 */
export function readDocument(text: string): Asked | null {
  const start = text.indexOf('{');
  if (start < 0) return null;
  const selection = text
    .slice(start)
    .replace(/"(?:[^"\\]|\\.)*"/g, '""')
    .replace(/\([^()]*\)/g, '');
  const fields = [...selection.matchAll(/(?:(\w+)\s*:\s*)?(\w+|\.\.\.)/g)];
  const [first, ...rest] = fields;
  if (first?.[2] === undefined) return null;
  return { field: first[2], as: first[1] ?? first[2], below: rest.map(([, , name]) => name!) };
}
