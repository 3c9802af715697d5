import Docker from 'dockerode';
import { ok, type Verdict, wrong } from './finding.ts';

/** Where `DOCKER_HOST` says, or on the usual socket: dockerode reads that itself. */
export async function dockerEngine(platform = process.platform): Promise<Verdict> {
  try {
    const version = await new Docker().version();
    return ok(`engine ${version.Version}, API ${version.ApiVersion}, ${version.Os}/${version.Arch}`);
  } catch (error) {
    return judgeDockerFailure(error as NodeJS.ErrnoException, platform);
  }
}

export function judgeDockerFailure(error: NodeJS.ErrnoException, platform: NodeJS.Platform): Verdict {
  if (error.code === 'EACCES') {
    return wrong(
      'the engine is there, but this user may not speak to it',
      'sudo usermod -aG docker "$USER" && newgrp docker',
    );
  }
  const start = platform === 'darwin' ? 'open -a Docker' : 'sudo systemctl start docker';
  return wrong(`the engine can't be reached: ${error.message}`, start);
}
