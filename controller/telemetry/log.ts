import { type Logger, pino } from 'pino';

/** JSON lines on stderr: stdout belongs to the ready line. Whatever could hold a secret is cut out by its path. */
export function createLog(level: string): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: [
          '*.token',
          '*.authorization',
          '*.headers.authorization',
          '*.headers.apikey',
          'err.config',
          '*.cause',
        ],
        censor: '[cut]',
      },
    },
    pino.destination({ dest: 2, sync: false }),
  );
}
