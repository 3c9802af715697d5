import { Fault } from '../fault.ts';

/** What an errno of a file operation means to the caller. */
export function fileFault(error: unknown, path: string): Fault {
  if (error instanceof Fault) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  const options = { field: 'path', cause: error };
  switch (code) {
    case 'ENOENT':
      return new Fault('file_not_found', `There is nothing at "${path}"`, options);
    case 'ENOTDIR':
      return new Fault('not_a_directory', `"${path}" has a part that is not a directory`, options);
    case 'EISDIR':
    case 'ENXIO':
      return new Fault('not_a_file', `"${path}" is not a regular file`, options);
    case 'EEXIST':
      return new Fault('file_exists', `Something exists at "${path}"`, options);
    case 'ENOTEMPTY':
      return new Fault('directory_not_empty', `The directory "${path}" is not empty`, options);
    case 'ENOSPC':
    case 'EDQUOT':
      return new Fault('disk_full', `The disk is full; "${path}" was not written`, options);
    case 'ENAMETOOLONG':
    case 'EINVAL':
    case 'ELOOP':
      return new Fault('invalid_path', `"${path}" can't be used as a path (${code})`, options);
    default:
      return new Fault('internal', `"${path}": ${code ?? message}`, options);
  }
}
