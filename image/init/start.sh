#!/bin/sh
# Entry point of the sandbox image: shuts what Fly puts into every machine, then goes on as init.
#
# /.fly/api is a Unix socket to the Machines API with a token of this machine already on it: who reaches it can stop the
# machine, change its metadata and have identity tokens signed for the whole organisation. Nothing here needs it. That this
# works on Fly itself was never tried; it was tried with sockets put there by a container engine.

if [ -e /.fly ]; then
  umount -l /.fly/api 2>/dev/null
  rm -f /.fly/api 2>/dev/null
  # A socket that can't be taken away can still be kept from everybody but root.
  chmod 000 /.fly/api 2>/dev/null
  chmod 700 /.fly 2>/dev/null
  # 7: curl could not connect. Anything else is an answer, or no proof.
  setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set=-all --no-new-privs \
    curl --silent --max-time 5 --output /dev/null --unix-socket /.fly/api http://localhost/
  if [ $? != 7 ]; then
    echo 'start.sh: user code could reach /.fly/api: not started' >&2
    exit 78
  fi
fi

exec /bin/sh /opt/init/init.sh "$@"
