#!/bin/sh
# Makes what `new-expo-app` unpacks, from the npm package TEMPLATE. Runs in the image's build, with npm's registry in reach.
#   prepare.sh TEMPLATE OVERRIDES DIR
# DIR/out: template.tgz (the template with a lockfile) and node_modules.tar.zst (pruned). DIR/metro-cache: its transforms.
set -eu
template=$1 overrides=$2 dir=$3
here=$(dirname "$0")
export EXPO_NO_TELEMETRY=1 EXPO_OFFLINE=1 EXPO_UNSTABLE_HEADLESS=1 npm_config_audit=false npm_config_fund=false
export npm_config_cache="$dir/npm" npm_config_update_notifier=false TMPDIR="$dir/tmp"
mkdir "$dir/out" "$dir/tmp"
cd "$dir"

npm pack "$template" --silent >/dev/null
tar -xzf ./*.tgz
# "static" bundles every module twice, for a server that a preview doesn't have: half the time and memory without.
OVERRIDES=$overrides node -e '
  const fs = require("node:fs");
  const edit = (file, change) => {
    const json = JSON.parse(fs.readFileSync(file, "utf8"));
    change(json);
    fs.writeFileSync(file, `${JSON.stringify(json, null, 2)}\n`);
  };
  edit("package/app.json", ({ expo }) => { expo.web = { ...expo.web, output: "single" }; });
  const overrides = JSON.parse(process.env.OVERRIDES);
  if (Object.keys(overrides).length > 0) edit("package/package.json", (json) => { json.overrides = overrides; });
'
(cd package && npm install --ignore-scripts --silent)
mv package/node_modules node_modules
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -czf out/template.tgz package

create-expo-app app --template "$dir/out/template.tgz" --yes --no-install --no-agents-md </dev/null
mv node_modules app/

# Only builds of native iOS and Android apps and readers need these. Licences stay.
cd app/node_modules
find . -depth \( -name prebuilds -o -name '*.xcframework' -o -name ReactAndroid -o -name ReactCommon -o -name ReactApple \) \
  -type d -exec rm -rf {} +
rm -rf hermes-compiler/hermesc/osx-bin hermes-compiler/hermesc/win64-bin expo-modules-macros-plugin/apple fb-dotslash
find . -type f \( -name '*.map' -o -name '*.flow' -o -name '*.tar.gz' -o -name standalone.js -path '*react-devtools-core*' \
  -o -name '*.md' ! -iname '*licen[cs]e*' ! -iname '*notice*' \) -delete
find . -type l ! -exec test -e {} \; -delete
cd ../..

node "$here/seed-caches.js" app
mv tmp/metro-cache metro-cache

tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C app -cf - node_modules |
  node -e '
    const zlib = require("node:zlib");
    const params = { [zlib.constants.ZSTD_c_compressionLevel]: 15, [zlib.constants.ZSTD_c_enableLongDistanceMatching]: 1 };
    process.stdin.pipe(zlib.createZstdCompress({ params })).pipe(process.stdout);
  ' >out/node_modules.tar.zst
