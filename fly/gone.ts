import { FlyError } from './errors.ts';

/**
 * Taking away what is not there is done. An app that is not there proves nothing: it may be a wrong name or a
 * wrong token.
 */
export async function gone(removal: Promise<void>): Promise<void> {
  try {
    await removal;
  } catch (error) {
    if (!(error instanceof FlyError && isAbsent(error))) throw error;
  }
}

/** The thing itself is missing, not the app that it was looked for in. */
export function isAbsent(error: FlyError): boolean {
  return error.kind === 'not_found' && error.reason !== 'app_not_found';
}
