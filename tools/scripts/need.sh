#!/usr/bin/env bash
# Makes sure that programs are there, so that a later step does not fail in the middle for want of one:
#   need.sh PROGRAM...     dockerd, cc, npm, mvn
#   need.sh                asks only whether anything may be installed on this machine
# What is missing is installed by root on Debian with CI=true or INSTALL_DOCKER=1. Anyone else gets one line.
set -euo pipefail
say() { echo "need: $* (+${SECONDS}s)" >&2; }
die() { echo "need: $*" >&2; exit 1; }

may_install() {
    [ "${CI:-}" = true ] || [ "${INSTALL_DOCKER:-}" = 1 ] || return 1
    [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null
}

has() {
    case $1 in
    dockerd) command -v dockerd >/dev/null && command -v docker >/dev/null && command -v iptables >/dev/null ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

packages_of() {
    case $1 in
    dockerd) echo docker.io containerd runc iptables ;;
    cc) echo gcc libc6-dev ;;
    npm) echo npm ;;
    mvn) echo maven ;;
    *) die "unknown program $1" ;;
    esac
}

[ $# -gt 0 ] || { may_install; exit; }
missing=() packages=()
for program in "$@"; do
    if has "$program"; then continue; fi
    missing+=("$program")
    read -ra more <<<"$(packages_of "$program")"
    packages+=("${more[@]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
may_install || die "${missing[*]} not found: install it (Debian: ${packages[*]}), or as root on Debian run with INSTALL_DOCKER=1"
say "installing ${packages[*]}"
log=$(mktemp); trap 'rm -f "$log"' EXIT
apt-get update -qq >"$log" 2>&1 || say "the package lists could not be updated; trying with what is there"
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; die "apt-get could not install ${packages[*]}"; }
say "installed"
