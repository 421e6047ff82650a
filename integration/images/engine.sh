#!/usr/bin/env bash
# Makes sure that a Docker engine answers:
#   engine.sh        returns 0 when one does
#   engine.sh env    prints the environment that testcontainers needs with it, as NAME=VALUE
# A running engine is used as it is. When none answers, root on Debian with CI=true or INSTALL_DOCKER=1 gets docker.io
# installed (when it is missing) and started; anyone else gets one line that says what to do. DOCKER_ROOT names another
# folder for the engine's data. Needs no init system.
set -euo pipefail
say() { echo "engine: $* (+${SECONDS}s)" >&2; }
die() { echo "engine: $*" >&2; exit 1; }
need=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/tools/scripts/need.sh
up() { timeout 10 docker version --format '{{.Server.Version}}' 2>/dev/null | grep -q .; }

wait_up() { # SECONDS
    local end=$((SECONDS + $1))
    while [ "$SECONDS" -lt "$end" ]; do up && return 0; sleep 0.2; done
    return 1
}

# env: what testcontainers must be told. With /.dockerenv it takes the bridge's gateway for the host of published ports. That is
# right inside a container, and wrong on a machine that was made from one and runs the engine itself.
if [ "${1:-}" = env ]; then
    if [ -f /.dockerenv ] && [ -z "${DOCKER_HOST:-}" ] && grep -qsx dockerd /proc/[0-9]*/comm; then echo TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1; fi
    exit 0
fi
up && exit 0
[ -z "${DOCKER_HOST:-}" ] || [ "$DOCKER_HOST" = unix:///var/run/docker.sock ] ||
    die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST: start it, unset DOCKER_HOST, or run with SKIP_DOCKER=1 to leave integration out"
"$need" || die "no Docker engine answers: start one, or (root on Debian) run with INSTALL_DOCKER=1 to install docker.io, or with SKIP_DOCKER=1 to leave integration out"

"$need" dockerd
if [ -d /run/systemd/system ]; then systemctl start docker >&2 || true; fi
# The package's own start script may have started it already: only a machine without any dockerd gets one from here.
if ! wait_up 1 && ! grep -qsx dockerd /proc/[0-9]*/comm; then
    rm -f /var/run/docker.pid
    log=${TMPDIR:-/tmp}/ingestd-dockerd.log
    # No descriptor of ours may live on in the engine: a lock held by one would never be released.
    for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || [ "$fd" = 255 ] || eval "exec $fd>&-"; done
    setsid nohup dockerd ${DOCKER_ROOT:+--data-root "$DOCKER_ROOT"} >"$log" 2>&1 </dev/null &
fi
if ! wait_up 60; then
    [ -z "${log:-}" ] || tail -n 20 "$log" >&2
    die "dockerd did not answer within 60 s"
fi
say "Docker $(docker version --format '{{.Server.Version}}') answers"
