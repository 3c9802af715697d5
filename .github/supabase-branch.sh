#!/usr/bin/env bash
# A Supabase branch for a preview, of the project $SUPABASE_PREVIEW_REF (which is not production's): `get NAME` makes it where it is
# not there and hands its address and keys to the steps that follow; `delete NAME` takes it away.
set -euo pipefail

cli=(npx --yes supabase@3.1.0 branches)
project="--remote=$SUPABASE_PREVIEW_REF"
name=$2
ready_within_seconds=600

# NAME of the variable, as the CLI writes it: NAME="value".
value_of() { sed -n "s/^$1=\"\{0,1\}\([^\"]*\)\"\{0,1\}\$/\1/p" <<< "$branch" | head -n 1; }

hand_on() {
  if [ -z "$2" ]; then
    echo "the branch $name has no $1" >&2
    exit 1
  fi
  echo "::add-mask::$2"
  echo "$1=$2" >> "$GITHUB_ENV"
}

case $1 in
  get)
    until branch=$("${cli[@]}" get "$name" "$project" --output env 2> branch.log); do
      if [ "$SECONDS" -gt "$ready_within_seconds" ]; then
        cat branch.log >&2
        exit 1
      fi
      # It may be there and not be ready.
      [ -n "${asked:-}" ] || "${cli[@]}" create "$name" "$project" --yes >&2 || true
      asked=yes
      sleep "${SUPABASE_BRANCH_POLL_SECONDS:-10}"
    done
    pooled=$(value_of POSTGRES_URL)
    hand_on SUPABASE_URL "$(value_of SUPABASE_URL)"
    hand_on SUPABASE_SERVICE_ROLE_KEY "$(value_of SUPABASE_SERVICE_ROLE_KEY)"
    # In session mode: migrations need a session, and the direct address is IPv6 alone, which GitHub's runners lack.
    hand_on SUPABASE_DB_URL "${pooled/:6543\//:5432/}"
    ;;
  delete)
    "${cli[@]}" delete "$name" "$project" --yes
    ;;
esac
