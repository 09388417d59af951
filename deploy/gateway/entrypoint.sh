#!/bin/bash
# Runs nginx, and tells it which replicas take new streams whenever that changes.
#
# nginx looks a name up once, and its open source edition asks no one for health. So this asks DNS
# for the replicas, and each of them, every second. A new one is taken when it answers, and left out
# when it is draining. One that no longer answers stays until DNS forgets it: nginx itself passes
# over it, and all of them may be slow at once.
set -euo pipefail

replicas=/tmp/replicas.conf
name=${REPLICAS_NAME:-serve}
port=${REPLICAS_PORT:-50051}
metrics_port=${REPLICAS_METRICS_PORT:-9100}

addresses() { getent ahostsv4 "$name" | awk '$2 == "STREAM" { print $1 }' | sort -u; }

takes_streams() {
  # shellcheck disable=SC2016 # for the inner shell to expand
  local page ask='exec 3<>"/dev/tcp/$0/$1"; printf "GET /metrics HTTP/1.0\r\n\r\n" >&3; cat <&3'
  page=$(timeout 1 bash -c "$ask" "$1" "$metrics_port" 2>/dev/null) || true
  case $page in
    *$'\n'"tidegate_draining 0.0"*) return 0 ;;
    *$'\n'"tidegate_draining 1.0"*) return 1 ;;
    *) grep -qF "server $1:" "$replicas" ;;
  esac
}

servers() {
  local address
  for address in $(addresses); do
    takes_streams "$address" && echo "server $address:$port max_fails=1 fail_timeout=2s;"
  done
  return 0
}

watch() {
  while sleep 1; do
    servers >"$replicas.new"
    # Without an answer from DNS, or with nobody to go to, all stays as it is.
    if [[ -s $replicas.new ]] && ! cmp --silent "$replicas" "$replicas.new"; then
      mv "$replicas.new" "$replicas"
      echo "replicas: $(grep -o '[0-9.]*:[0-9]*' "$replicas" | paste -sd' ')"
      kill -HUP 1
    fi
    # For the health check: it is watched.
    touch /tmp/watched
  done
}

# nginx wants at least one; this one answers nobody.
echo 'server 127.0.0.1:1 down;' >"$replicas"
servers >"$replicas.new"
[[ ! -s $replicas.new ]] || mv "$replicas.new" "$replicas"
watch &
exec nginx -c /etc/tidegate/nginx.conf -g 'daemon off;'
