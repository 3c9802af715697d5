import { execFile } from 'node:child_process';

export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Where {
  env: NodeJS.ProcessEnv;
  cwd: string;
  signal: AbortSignal;
}

/** Runs a program of the PATH to its end, without input. Undefined when there is none of that name; rejects at the deadline. */
export function run(program: string, args: string[], where: Where): Promise<Ran | undefined> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { ...where, killSignal: 'SIGKILL' }, (error, stdout, stderr) => {
      if (error === null) return resolve({ code: 0, stdout, stderr });
      if (error.code === 'ENOENT') return resolve(undefined);
      if (typeof error.code === 'number') return resolve({ code: error.code, stdout, stderr });
      reject(new Error(`${program} did not run to its end (${error.code ?? error.signal})`));
    });
    child.stdin?.end();
  });
}

/** The PATH of the shell that this was started from: npx and npm put folders of theirs before it, up to `node-gyp-bin` (npm 11). */
export function shellPath({ PATH = '', npm_command }: NodeJS.ProcessEnv): string {
  if (npm_command === undefined) return PATH;
  const folders = PATH.split(':');
  return folders.slice(folders.findLastIndex((folder) => folder.endsWith('node-gyp-bin')) + 1).join(':');
}
