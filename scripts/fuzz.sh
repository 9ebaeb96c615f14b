#!/usr/bin/env bash
# Runs every fuzz target of the module one after the other: fuzz.sh <time>.
set -euo pipefail

time=${1:-30s}
failed=()
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "== $target ($package), $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || failed+=("$target")
	done
done
if [ "${#failed[@]}" -gt 0 ]; then
	echo "found something: ${failed[*]}" >&2
	exit 1
fi
