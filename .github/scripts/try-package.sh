#!/usr/bin/env bash
# Installs a packed package in an empty folder, with the Node on the PATH, and runs it: try-package.sh TARBALL WHAT
# WHAT is `render`; `up`, which also starts the gateway with Docker and sends it a chat; or `refused`, on a Node that is too old.
set -euo pipefail

usage() {
  echo "usage: ${0##*/} TARBALL render|up|refused" >&2
  exit 64
}
fail() {
  echo "error: $*" >&2
  exit 1
}
[ $# = 2 ] || usage
tarball=$(realpath "$1")
what=$2
case $what in render | up | refused) ;; *) usage ;; esac

folder=$(mktemp -d)
gateway=''
end() {
  [ -z "$gateway" ] || kill -TERM "$gateway" 2>/dev/null || true
  rm -rf "$folder"
}
trap end EXIT
cd "$folder"

echo "Node $(node --version), npm $(npm --version)"
# Offline: it needs no other package.
npm install --offline --no-audit --no-fund "$tarball"
packages=(node_modules/*/)
[ "${#packages[@]}" = 1 ] || fail "more than one package was installed: ${packages[*]}"
program=node_modules/.bin/genai-gateway

if [ "$what" = refused ]; then
  status=0
  said=$("$program" check 2>&1) || status=$?
  echo "$said"
  [[ $status = 69 && $said == "genai-gateway needs Node.js "* ]] || fail "exit code $status, and not the version that is needed"
  exit
fi

"$program" render --env-file node_modules/genai-gateway/examples/minimal.env --out rendered
for name in apisix.yaml config.yaml otel-collector.yaml; do
  [ -s "rendered/$name" ] || fail "rendered/$name was not written"
done
[ "$what" = up ] || exit 0

"$program" up --mock --port 0 --mock-port 0 >up.log 2>&1 &
gateway=$!
# A pull of the image is a part of it.
for ((second = 0; second < 600; second++)); do
  ! grep -q 'Ctrl-C stops it\.' up.log || break
  kill -0 "$gateway" 2>/dev/null || break
  sleep 1
done
grep -q 'Ctrl-C stops it\.' up.log || { cat up.log; fail "the gateway did not start"; }
# The first command that it says to try: a chat.
sed -n '/^  curl/,/[^\\]$/p' up.log | sed '/[^\\]$/q' >chat.sh
cat chat.sh
bash -e chat.sh | tee chat.txt
grep -q '^HTTP/1\.1 200' chat.txt || { cat up.log; fail "the chat was not answered with 200"; }
kill -INT "$gateway"
wait "$gateway" || fail "up ended with exit code $?"
gateway=''
