#!/bin/sh
# Pid 1 of a machine: starts the entry point given as arguments, passes signals on to it, reaps orphans and exits with
# its code (128 + signal number where a signal ended it). When this process ends, the kernel ends all the others.

child= early= interrupted=

pass_on() {
  interrupted=yes
  if [ -z "$child" ]; then
    early=$1
    return
  fi
  tries=0
  while would_be_lost "$1" && [ $((tries += 1)) -lt 100 ]; do sleep 0.01; done
  kill -s "$1" "$child" 2>/dev/null
}

# Until the new process has become another program it has this shell's handlers. A background command of a shell also
# starts with INT and QUIT ignored, which `env` below changes, but not at once: bit 1 of the mask's last hex digit is INT,
# bit 2 is QUIT.
would_be_lost() {
  cmp -s "/proc/$$/cmdline" "/proc/$child/cmdline" && return 0
  case $1 in INT) digits=2367abef ;; QUIT) digits=4567cdef ;; *) return 1 ;; esac
  while read -r key mask; do
    [ "$key" = SigIgn: ] && case $mask in *[$digits]) return 0 ;; esac
  done 2>/dev/null <"/proc/$child/status"
  return 1
}

# Who starts this may take it that all signals are handled when USR2, the last one, is.
for name in TERM INT HUP QUIT USR1 USR2; do
  # shellcheck disable=SC2064 # the name as it is now
  trap "pass_on $name" "$name"
done

# Fly stops a machine with SIGINT by default.
env --default-signal=INT --default-signal=QUIT "$@" &
child=$!
[ -z "$early" ] || pass_on "$early"

# `wait` returns early for a trapped signal. Waiting again gives the child's own code, or 127 when the first call had
# it already. The shell's own word about a signal is left out.
interrupted=
{ wait "$child"; } 2>/dev/null
code=$?
while [ -n "$interrupted" ]; do
  interrupted=
  { wait "$child"; } 2>/dev/null
  again=$?
  [ "$again" = 127 ] || code=$again
done
exit "$code"
