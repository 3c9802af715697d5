/**
 * Preloaded (`node --import`) into a process that must not outlive the stack but knows nothing of it: when the pipe that is its
 * stdin closes, because the stack stopped or was killed, it gets the SIGTERM that a platform would send.
 */
process.stdin.resume().once('close', () => process.kill(process.pid, 'SIGTERM'));
process.stdin.on('error', () => {});
// The pipe alone must not keep the process alive.
(process.stdin as unknown as { unref?: () => void }).unref?.();
