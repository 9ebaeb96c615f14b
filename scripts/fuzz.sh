#!/usr/bin/env bash
# Runs every fuzz target, of the module and of tests/engine, one after the
# other: fuzz.sh <time>. Inputs are minimized for a few tries each: a minute, the
# default, would leave no time for others where inputs are files.
set -euo pipefail
cd "$(dirname "$0")/.."

time=${1:-30s}
# Without it the tests of tests/engine do not start.
export CHDB_LIB_PATH=$PWD/tests/engine/node_modules/@chdb/lib-linux-x64-gnu/libchdb.so
[ -e "$CHDB_LIB_PATH" ] || { echo "no $CHDB_LIB_PATH: make setup installs it" >&2; exit 1; }
failed=()
for module in . tests/engine; do
	for package in $(go -C "$module" list ./...); do
		for target in $(go -C "$module" test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
			echo "== $target ($package), $time"
			go -C "$module" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 20x "$package" || failed+=("$target")
		done
	done
done
if [ "${#failed[@]}" -gt 0 ]; then
	echo "found something: ${failed[*]}" >&2
	exit 1
fi
