#!/usr/bin/env bash
# Makes the page of a release, with the changelog's section and the files given: release-page.sh FILE...
# GH_TOKEN is the token for it; GITHUB_REF_NAME the tag, which is there already.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# -gt 0 ] || { echo 'usage: release-page.sh FILE...' >&2; exit 64; }
: "${GITHUB_REF_NAME:?set it to the tag of the release, such as v1.2.3}"
notes=$(mktemp)
trap 'rm -f "$notes"' EXIT
node .github/scripts/release.mjs notes "$GITHUB_REF_NAME" >"$notes"
options=()
[[ $GITHUB_REF_NAME != *-* ]] || options+=(--prerelease)
gh release create "$GITHUB_REF_NAME" --verify-tag --title "$GITHUB_REF_NAME" --notes-file "$notes" "${options[@]}" "$@"
