/** One JSON object a line on stderr, where the machine's own log is read. Never given a token or a signed URL. */
export function log(
  level: 'info' | 'warn' | 'error',
  msg: string,
  fields: Record<string, unknown> = {},
): void {
  process.stderr.write(`${JSON.stringify({ time: Date.now(), level, msg, ...fields })}\n`);
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
