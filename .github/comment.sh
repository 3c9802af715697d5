#!/usr/bin/env bash
# One comment on pull request $PR of $GITHUB_REPOSITORY, with the text on standard input; the one of the last time is changed.
set -euo pipefail

mark='<!-- mobvibe preview -->'
comments="repos/$GITHUB_REPOSITORY/issues/$PR/comments"
body=$(printf '%s\n%s\n' "$mark" "$(cat)")

known=$(gh api "$comments" --paginate --jq ".[] | select(.body | startswith(\"$mark\")) | .id" | head -n 1)
if [ -n "$known" ]; then
  gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$known" -f body="$body" --silent
else
  gh api --method POST "$comments" -f body="$body" --silent
fi
