#!/bin/sh
# Pid 1 of a machine: starts the entry point given as arguments, passes signals on to it, reaps orphans and exits with
# its code (128 + signal number where a signal ended it). When this process ends, the kernel ends all the others.
#
# A program that counts on in the file `heartbeat` of MOBVIBE_AGENT_STATE_DIR, as the agent does, is looked after: it is killed
# when its count stands still, and started again when it was killed or failed, with the reason in MOBVIBE_AGENT_RESTARTED.

child= early= interrupted= stopping= restarts=0
heartbeat=${MOBVIBE_AGENT_STATE_DIR:+$MOBVIBE_AGENT_STATE_DIR/heartbeat}

pass_on() {
  interrupted=yes
  case $1 in TERM | INT | QUIT) stopping=yes ;; esac
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

# `wait` returns early for a trapped signal. Waiting again gives the process's own code, or 127 when the first call had
# it already. The shell's own word about a signal is left out.
await() {
  interrupted=
  { wait "$1"; } 2>/dev/null
  code=$?
  while [ -n "$interrupted" ]; do
    interrupted=
    { wait "$1"; } 2>/dev/null
    again=$?
    [ "$again" = 127 ] || code=$again
  done
}

# Kills the program when its count has stood still for 6 looks, and says so by the name of the file.
watch() {
  still=0 before=
  while sleep "${MOBVIBE_INIT_LOOK_S:-5}"; do
    count=
    read -r count <"$heartbeat"
    if [ "$count" = "$before" ]; then still=$((still + 1)); else still=0; fi
    before=$count
    if [ -n "$count" ] && [ "$still" -ge 6 ]; then
      mv -f "$heartbeat" "$heartbeat.still"
      kill -KILL "$child"
      return
    fi
  done
}

# How often the kernel has killed for memory: in this machine, where that can be seen.
oom_kills() {
  for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control /proc/vmstat; do
    while read -r key number; do
      [ "$key" = oom_kill ] && echo "$number" && return
    done <"$file"
  done 2>/dev/null
  echo 0
}

uptime() {
  read -r seconds _ </proc/uptime
  echo "${seconds%.*}"
}

# Who starts this may take it that all signals are handled when USR2, the last one, is.
for name in TERM INT HUP QUIT USR1 USR2; do
  # shellcheck disable=SC2064 # the name as it is now
  trap "pass_on $name" "$name"
done

[ -z "$heartbeat" ] || rm -f "$heartbeat" "$heartbeat.still"

while :; do
  kills=$(oom_kills) began=$(uptime) watcher=
  # Fly stops a machine with SIGINT by default.
  env --default-signal=INT --default-signal=QUIT "$@" &
  child=$!
  [ -z "$early" ] || pass_on "$early"
  if [ -n "$heartbeat" ]; then
    watch >/dev/null 2>&1 &
    watcher=$!
  fi
  await "$child"
  child= ended=$code why=crashed
  if [ -n "$watcher" ]; then
    kill -KILL "$watcher" 2>/dev/null
    await "$watcher"
  fi
  if [ -e "$heartbeat.still" ]; then
    mv -f "$heartbeat.still" "$heartbeat"
    why=unresponsive
  fi

  # 0: it was stopped. 70: no controller was there for too long. 78: it can't run here.
  case $ended in 0 | 70 | 78) exit "$ended" ;; esac
  if [ -n "$stopping" ] || [ ! -s "$heartbeat" ]; then exit "$ended"; fi
  [ $(($(uptime) - began)) -lt 60 ] || restarts=0
  [ $((restarts += 1)) -le 5 ] || exit "$ended"
  if [ "$why" = crashed ] && [ "$ended" = 137 ] && [ "$(oom_kills)" != "$kills" ]; then why=out_of_memory; fi
  echo "init: the program has ended with $ended ($why), it is started again" >&2
  export MOBVIBE_AGENT_RESTARTED="$why"
  sleep $((restarts - 1)) &
  wait $!
  [ -z "$stopping" ] || exit "$ended"
done
