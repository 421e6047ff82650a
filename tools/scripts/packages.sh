#!/usr/bin/env bash
# Prints the packages (as ./folder) with a test file that matches an extended regular expression:
#   packages.sh PATTERN
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
{ grep -rlE --include='*_test.go' "$1" . || true; } | grep -v /testdata/ | xargs -r -n1 dirname | sort -u
