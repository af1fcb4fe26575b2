#!/bin/bash
# The first process of the image. Without arguments it renders the settings and starts APISIX; with `docker-start`, or
# with GATEWAY_SHARED_DIR, it starts APISIX from files that another container has rendered; anything else is a command
# of genai-gateway. It passes signals on, waits, and collects what dies: docs/deployment.md.

# Jobs in process groups of their own: they get the usual signals, and a terminal's Ctrl-C comes to this process alone.
set -u -m

home=/opt/genai-gateway
program=$home/dist/genai-gateway.cjs
node=/usr/local/bin/node
prefix=/usr/local/apisix
conf=$prefix/conf
temporary=/tmp/genai-gateway

# What `container` prints, as assignments.
env_files=() exported=() follow='' json=''
[[ ${GATEWAY_LOG_FORMAT-} != [jJ][sS][oO][nN] ]] || json=true

child='' watcher='' signalled=''

say() {
  if [[ $json ]]; then
    printf '{"level":"%s","message":"%s"}\n' "$1" "${2//[\"\\]/}" >&2
  else
    printf '%s: %s\n' "$1" "$2" >&2
  fi
}

fail() {
  say error "$2"
  exit "$1"
}

# Behind `--` Node leaves --env-file to the program.
genai_gateway() {
  exec "$node" -- "$program" "$@"
}

# nginx drains on SIGQUIT, and takes SIGTERM for "at once". Bash, which starts it, ignores SIGQUIT.
stop() {
  local name=''
  [[ ! $watcher ]] || kill -TERM -- "-$watcher"
  [[ ! $child ]] || read -r name <"/proc/$child/comm" || true
  case $name in
    '') ;;
    openresty | nginx) kill -QUIT "$child" ;;
    *) kill -TERM -- "-$child" ;;
  esac
} 2>/dev/null

trap 'signalled=true; stop' TERM INT QUIT

# Renders where a folder is given, and takes over what env files give.
compile() {
  local given
  given=$(genai_gateway container "$@") || exit
  eval "$given"
}

# What the image has in folders that a mount may hide; a container that nothing is mounted into has it already.
prepare() {
  if [[ ! -e $conf/mime.types ]] && ! cp -Rn "$home/conf/." "$conf/"; then
    fail 3 "$conf cannot be written: mount a volume there that user $UID may write to"
  fi
  [[ -w $prefix/logs ]] || fail 3 "$prefix/logs cannot be written: mount a volume or tmpfs there"
  [[ -L $prefix/logs/access.log || -e $prefix/logs/access.log ]] || ln -s /dev/stdout "$prefix/logs/access.log"
  [[ -L $prefix/logs/error.log || -e $prefix/logs/error.log ]] || ln -s /dev/stderr "$prefix/logs/error.log"
  [[ -d $temporary/client_body_temp ]] ||
    mkdir -p "$temporary/"{client_body,proxy,fastcgi,uwsgi,scgi}_temp ||
    fail 3 "/tmp cannot be written: mount a volume or tmpfs there"
}

# A switch that is off, or not set: the words of the compiler's boolean type, in any case.
is_false() {
  [[ ${1,,} =~ ^[[:space:]]*(false|0|no|off)?[[:space:]]*$ ]]
}

# Files that another container has rendered: in the conf folder itself, or in the one that GATEWAY_SHARED_DIR names.
take_rendered() {
  local from=${GATEWAY_SHARED_DIR:-$conf} name
  [[ $from == /* ]] || fail 1 "GATEWAY_SHARED_DIR is $from: write an absolute path"
  say info "nothing is rendered here: APISIX starts from $from"
  is_false "${GATEWAY_WATCH-}" ||
    say warning "GATEWAY_WATCH has no effect here: let the container that renders run genai-gateway watch --out DIR"
  for name in config.yaml apisix.yaml; do
    [[ -r $from/$name ]] ||
      fail 1 "$from/$name is not there: let genai-gateway render --out DIR write it before this container starts"
    [[ $from == "$conf" ]] || ln -sfn "$from/$name" "$conf/$name" ||
      fail 3 "$conf cannot be written: mount a volume there that user $UID may write to"
  done
}

# Becomes a program that has what env files gave. A name there may be one of ours, or one that bash heeds: all words are
# taken before any is set, and nothing but the program comes after.
become() {
  ((${#exported[@]} == 0)) || export "${exported[@]}"
  exec "$@"
}

start_apisix() {
  exported+=(APISIX_STAND_ALONE=true)
  become /docker-entrypoint.sh docker-start
}

# The files are followed beside APISIX, which goes on with what it has when the follower dies.
keep_following() {
  local delay=1 began each arguments=() names=''
  for each in "${env_files[@]}"; do
    arguments+=(--env-file "$each")
  done
  for each in "${exported[@]}"; do
    names+=${names:+,}${each%%=*}
  done
  # Half the memory after many changes; short pauses are nothing to it. What env files give Node is for nobody here: the
  # compiler that read them ran without it.
  exported+=("NODE_OPTIONS=${NODE_OPTIONS-} --max-semi-space-size=1" "GENAI_GATEWAY_EXPORTED=$names")
  while :; do
    began=$SECONDS
    become "$node" -- "$program" watch --out "$conf" "${arguments[@]}" >&2 &
    wait "$!" 2>/dev/null
    say warning "the files are not followed for ${delay}s: genai-gateway watch ended with code $?"
    ((SECONDS - began < 60)) || delay=1
    sleep "$delay"
    ((delay = delay < 30 ? delay * 2 : 30))
  done
}

# Ends with the exit code of the child, however many signals come in before; what else runs here ends with this process.
wait_for_child() {
  local status
  [[ ! $signalled ]] || stop
  while :; do
    signalled=''
    # Bash says so itself where a signal ended it.
    wait -f "$child" 2>/dev/null
    status=$?
    [[ $signalled ]] || exit "$status"
  done
}

case ${1-} in
  '' | docker-start)
    if [[ ${1-} || ${GATEWAY_SHARED_DIR-} ]]; then
      [[ ! ${GATEWAY_ENV_FILES-} ]] || compile
      take_rendered
    else
      compile --out "$conf"
    fi
    prepare
    start_apisix &
    child=$!
    if [[ $follow ]]; then
      keep_following &
      watcher=$!
    fi
    ;;
  *)
    genai_gateway "$@" <&0 &
    child=$!
    ;;
esac

wait_for_child
