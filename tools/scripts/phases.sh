#!/usr/bin/env bash
# Runs make targets one after the other, stops at the first that fails, and always ends with a table of their times and a
# count of the packages that `go test` reported:
#   phases.sh TITLE TARGET...
set -uo pipefail
title=$1; shift
log=$(mktemp); trap 'rm -f "$log"' EXIT
rows=() failed=

for target in "$@"; do
    if [ -n "$failed" ]; then rows+=("$(printf '  %-16s %7s  %s' "$target" - 'not run')"); continue; fi
    printf '\n=== %s\n' "$target"
    start=$SECONDS
    if "${MAKE:-make}" --no-print-directory "$target" 2>&1 | tee -a "$log"; then result=ok; else result=FAILED; failed=$target; fi
    rows+=("$(printf '  %-16s %6ds  %s' "$target" $((SECONDS - start)) "$result")")
done

printf '\n=== %s\n' "$title"
printf '%s\n' "${rows[@]}"
printf '  %-16s %6ds\n' total "$SECONDS"
ok=$(grep -c '^ok  	' "$log")
bad=$(grep -c '^FAIL	' "$log")
[ $((ok + bad)) = 0 ] || printf '  packages tested: %d ok, %d failed\n' "$ok" "$bad"
[ -z "$failed" ] || { grep -E '^(FAIL	|[[:space:]]*--- FAIL)' "$log" | sed 's/^/  /'; echo "$title: FAILED in $failed"; exit 1; }
echo "$title: ok"
