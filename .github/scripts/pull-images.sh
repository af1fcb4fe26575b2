#!/usr/bin/env bash
# Pulls the images that tests run or build on, and takes promtool out of Prometheus's: .github/scripts/pull-images.sh
set -euo pipefail
cd "$(dirname "$0")/../.."

# From the packages that the tests are locked to: the list is in TypeScript.
[ -d node_modules ] || npm ci --ignore-scripts
images=$(node test/available.mjs --images)
for image in $images; do
  echo "Pulling $image"
  docker pull --quiet "$image"
done

prometheus=$(grep '^prom/prometheus:' <<<"$images")
container=$(docker create "$prometheus")
trap 'docker rm "$container" >/dev/null' EXIT
bin=$HOME/.local/bin
mkdir -p "$bin"
docker cp "$container:/bin/promtool" "$bin/promtool"
[ -z "${GITHUB_PATH-}" ] || echo "$bin" >>"$GITHUB_PATH"
