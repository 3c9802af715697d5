/** In the environment of what an exec starts: it tells its processes from those of others, also where they have become orphans. */
export const MARK = 'SANDBOX_EXEC_ID';
