/** What user code sees of the machine's environment. All else stays out: a platform puts secrets there. */
const PASSED_ON = [
  'PATH',
  'LANG',
  'TZ',
  'NODE_OPTIONS',
  'NODE_EXTRA_CA_CERTS',
  'NODE_USE_ENV_PROXY',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'http_proxy',
  'https_proxy',
  'no_proxy',
  'npm_config_registry',
  // By name: EXPO_TOKEN is a secret.
  'EXPO_NO_TELEMETRY',
  'EXPO_OFFLINE',
  'EXPO_UNSTABLE_HEADLESS',
];

const DEFAULTS = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
  TERM: 'dumb',
  USER: 'user',
  LOGNAME: 'user',
  SHELL: '/bin/sh',
};

export function userEnvironment(home: string, machineEnv: NodeJS.ProcessEnv): Record<string, string> {
  const env: Record<string, string> = { ...DEFAULTS, HOME: home };
  for (const name of PASSED_ON) {
    const value = machineEnv[name];
    if (value) env[name] = value;
  }
  return env;
}
