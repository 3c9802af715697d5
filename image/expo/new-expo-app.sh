#!/bin/sh
# Makes a new Expo app, ready to start, without network: `new-expo-app NAME` in the folder that shall hold it.
set -eu
if [ $# != 1 ] || [ -z "$1" ]; then
  echo 'usage: new-expo-app NAME (a new folder)' >&2
  exit 64
fi
if [ -e "$1" ] && [ -n "$(ls -A "$1")" ]; then
  echo "new-expo-app: \"$1\" is there already and is not empty" >&2
  exit 73
fi

export EXPO_NO_TELEMETRY=1 EXPO_OFFLINE=1
# What it says on success tells to run `npm install`: not needed here.
if ! said=$(create-expo-app "$1" --template /opt/expo/template.tgz --yes --no-install --no-agents-md </dev/null 2>&1); then
  echo "$said" >&2
  exit 70
fi
node -e '
  const { createReadStream } = require("node:fs");
  createReadStream("/opt/expo/node_modules.tar.zst").pipe(require("node:zlib").createZstdDecompress()).pipe(process.stdout);
' | tar -xf - -C "$1"
test -x "$1/node_modules/.bin/expo"
echo "$1 is ready: npx expo start, npx expo export --platform web"
