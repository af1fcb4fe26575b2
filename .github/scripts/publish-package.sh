#!/usr/bin/env bash
# Publishes a packed package on npm, with provenance: publish-package.sh TARBALL
# In the workflow npm trusts the workflow itself; there is no token. With DRY_RUN=true nothing is published.
set -euo pipefail
cd "$(dirname "$0")/../.."

tarball=${1:?usage: publish-package.sh TARBALL}
version=$(node --print 'require("./package.json").version')
case ${tarball##*/} in
  "genai-gateway-$version.tgz") ;;
  *)
    echo "error: $tarball is not the package of version $version" >&2
    exit 1
    ;;
esac
# A version such as 1.2.0-rc.1 is for those who ask for it.
tag=latest
[[ $version != *-* ]] || tag=next
options=(--access public --tag "$tag")
if [ "${DRY_RUN-}" = true ]; then
  options+=(--dry-run)
else
  options+=(--provenance)
fi
npm publish "./$(realpath --relative-to=. "$tarball")" "${options[@]}"
