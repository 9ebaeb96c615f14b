#!/usr/bin/env bash
# Runs every fuzz target of the module one after the other: fuzz.sh <time>.
# Inputs are minimized for a few tries each: a minute, the default, would leave no
# time for others where inputs are files.
set -euo pipefail

time=${1:-30s}
failed=()
for package in $(go list ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "== $target ($package), $time"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$package" || failed+=("$target")
	done
done
if [ "${#failed[@]}" -gt 0 ]; then
	echo "found something: ${failed[*]}" >&2
	exit 1
fi
