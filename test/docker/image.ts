import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import type Docker from 'dockerode';
import { type Pack, pack } from 'tar-stream';

/** What machines of the tests find on their PATH, of this host's own programs. */
const TOOLS = ['sh', 'sleep', 'cat', 'id', 'stat', 'tail', 'kill'];

const DOCKERFILE = `FROM scratch
COPY root /
ENV PATH=/bin FROM_IMAGE=yes
ENTRYPOINT ["/bin/sh", "-c", "echo \\"console: $*\\"; exec sleep 600", "entry"]
CMD ["the", "image's", "command"]
`;

/** Builds an image of this host's programs and their libraries, so that none has to be pulled. */
export async function buildTestImage(docker: Docker, tag: string): Promise<void> {
  const programs = new Map(TOOLS.map((name) => [`/bin/${name}`, which(name)]));
  programs.set('/bin/node', process.execPath);
  const files = new Map(programs);
  for (const program of programs.values())
    for (const library of libraries(program)) files.set(library, library);

  const context = pack();
  context.entry({ name: 'Dockerfile' }, DOCKERFILE);
  for (const [path, source] of files) {
    context.entry({ name: `root${path}`, mode: 0o755 }, readFileSync(source));
  }
  context.entry({ name: 'root/etc/passwd' }, 'root:x:0:0::/:/bin/sh\n');
  context.entry({ name: 'root/tmp', type: 'directory', mode: 0o1777 });
  context.finalize();
  await build(docker, context, tag);
}

/** Another image that differs from `base` by a label alone. */
export async function buildVariant(docker: Docker, base: string, tag: string, note: string): Promise<void> {
  const context = pack();
  context.entry({ name: 'Dockerfile' }, `FROM ${base}\nLABEL note="${note}"\n`);
  context.finalize();
  await build(docker, context, tag);
}

async function build(docker: Docker, context: Pack, tag: string): Promise<void> {
  const progress = await docker.buildImage((await buffer(context)) as never, { t: tag });
  await new Promise<void>((resolve, reject) =>
    docker.modem.followProgress(progress, (error) => (error ? reject(error) : resolve())),
  );
}

function which(name: string): string {
  return execFileSync('sh', ['-c', 'command -v "$1" || echo "/bin/$1"', 'which', name], { encoding: 'utf8' })
    .trim()
    .replace(/^(?!\/).*/, `/bin/${name}`);
}

/** Absolute paths of the shared libraries and the loader. */
function libraries(program: string): string[] {
  const lines = execFileSync('ldd', [program], { encoding: 'utf8' }).split('\n');
  return lines.flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? []);
}
