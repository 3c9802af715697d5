#!/bin/sh
# Makes a Debian with Node into the sandbox's system: adds what is missing, takes away what nobody in a sandbox needs, and
# every set-uid and set-gid bit. Runs in the image's build; what is removed costs nothing, as the result is copied into one
# layer.
set -eu

missing=
for tool in bash curl git; do command -v "$tool" >/dev/null || missing="$missing $tool"; done
[ -s /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
if [ -n "$missing" ]; then
  apt-get update
  # shellcheck disable=SC2086 # a list
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing
fi
node --version
git --version
curl --version

cd /
rm -rf var/lib/apt/lists/* var/cache/* var/log/* tmp/* root/.npm root/.cache \
  usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bash-completion \
  usr/local/include usr/local/share/doc usr/local/share/man usr/local/bin/yarn* opt/yarn*
# Perl's library is here for a few git commands only (send-email, svn and the like), which go with it. What Debian's own
# tools need of Perl is in perl-base and stays.
rm -rf usr/share/perl usr/share/perl5 usr/lib/*/perl usr/lib/*/perl5 usr/lib/*/libperl.so*
if [ -d usr/lib/git-core ]; then
  find usr/lib/git-core -type f -exec sh -c 'head -n 1 "$1" | grep -q perl && rm "$1"' sh {} \;
  # git's servers and its oldest transports, 2 MB each.
  for name in daemon http-backend http-fetch http-push imap-send shell; do rm -f "usr/lib/git-core/git-$name"; done
  rm -f usr/bin/scalar usr/lib/git-core/scalar
  ln -sf /usr/bin/git usr/lib/git-core/git
fi
# iconv's tables of other character sets.
rm -rf usr/lib/*/gconv
find / -xdev -type f -perm /6000 -exec chmod a-s {} +

for name in node user; do
  if id "$name" >/dev/null 2>&1; then userdel "$name"; fi
done
groupadd --gid 1000 user
useradd --uid 1000 --gid 1000 --no-create-home --home-dir /home/user --shell /bin/bash user
rm -rf home/* etc/passwd- etc/group- etc/shadow- etc/gshadow- etc/subuid- etc/subgid-
