#!/usr/bin/env bash
# Runs each fuzz target of the tree for a while: fuzz.sh DURATION
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
found=
while IFS=: read -r file name; do
    found=1
    echo "=== $name ($1)"
    go test -run '^$' -fuzz "^$name\$" -fuzztime "$1" "$(dirname "$file")"
done < <(grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's/:[0-9]+:func /:/' | sort)
[ -n "$found" ] || { echo "fuzz: the tree has no fuzz target" >&2; exit 1; }
