import { request } from 'node:http';

/** Resolves when a proxy answers there: it refuses what is no CONNECT, and that is answer enough. `unix:/socket` or `http://host:port`. */
export function probeEgress(url: string, signal: AbortSignal): Promise<void> {
  const { hostname, port } = new URL(url);
  const where = url.startsWith('unix:')
    ? { socketPath: url.slice('unix:'.length) }
    : { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port || 80) };
  return new Promise((resolve, reject) => {
    const asked = request({ ...where, method: 'HEAD', path: '/', agent: false, signal });
    asked.once('response', (answer) => {
      answer.resume();
      asked.destroy();
      resolve();
    });
    asked.once('error', reject);
    asked.end();
  });
}

/** Where a controller with these settings reaches the proxy; undefined where it can't tell. */
export function egressProbeUrl(settings: {
  egressProbeUrl: string | undefined;
  egressProxyUrl: string | undefined;
}): string | undefined {
  const { egressProbeUrl: own, egressProxyUrl: ofMachines } = settings;
  // A socket that is handed to machines lies at a path inside them.
  return own ?? (ofMachines?.startsWith('http:') ? ofMachines : undefined);
}
