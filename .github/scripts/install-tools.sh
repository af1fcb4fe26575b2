#!/usr/bin/env bash
# Installs what the tests and linters need besides Node and Docker, on Debian and Ubuntu: .github/scripts/install-tools.sh
# Needs Go and Python 3. What it installs for the user alone is in ~/.local.
set -euo pipefail

actionlint=v1.7.12
zizmor=1.32.0

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}
as_root apt-get update --quiet
as_root env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends \
  fish jq lua-check luajit openssl python3-venv shellcheck zsh

bin=$HOME/.local/bin
mkdir -p "$bin"
GOBIN=$bin go install "github.com/rhysd/actionlint/cmd/actionlint@$actionlint"
environment=$HOME/.local/share/genai-gateway-tools
python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check "zizmor==$zizmor"
ln -sf "$environment/bin/zizmor" "$bin/zizmor"

[ -z "${GITHUB_PATH-}" ] || echo "$bin" >>"$GITHUB_PATH"
"$bin/actionlint" --version
"$bin/zizmor" --version
