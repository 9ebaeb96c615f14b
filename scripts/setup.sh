#!/usr/bin/env bash
# Installs what the tests need and Go does not bring: a C compiler (the race
# detector's), Redis, nginx, PHP's FastCGI server, a browser, and Node.js with
# the HTML parser that judges pages and the ClickHouse that Tinybird's endpoints
# are computed on (a library of 570 MB, for Linux on x86-64 with glibc only); or,
# with the argument bench, what the benchmarks need; with client, what the browser
# runtime and its package are made with. Installs nothing when all is there.
set -euo pipefail
what=${1:-tests}

has() {
	local name
	for name in "$@"; do
		# The server lies in sbin on some systems, which is not in everyone's PATH.
		PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$name" >/dev/null 2>&1 && return 0
	done
	return 1
}

has go || { echo "setup: Go is missing: install Go 1.26 or newer" >&2; exit 1; }

# What is missing, in words and as Debian's packages.
missing=()
packages=()
need() { # need <words> <packages> <programs, one of which will do>
	local words=$1 names=$2
	shift 2
	has "$@" && return 0
	missing+=("$words")
	read -ra names <<<"$names"
	packages+=("${names[@]}")
}
case "$what" in
tests)
	need "a C compiler" "gcc libc6-dev" "${CC:-cc}" gcc clang
	need "redis-server (Redis 7 or newer)" "redis-server" redis-server
	need "nginx" "nginx-light" nginx
	need "prometheus" "prometheus" prometheus
	need "ip (iproute2)" "iproute2" ip
	# Debian has it by its version only: php-fpm8.2.
	php=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" compgen -c php-fpm | head -n 1 || true)
	need "php-fpm" "php-fpm" "${php:-php-fpm}"
	need "Chromium, as chromium in the PATH" "chromium" chromium
	need "Node.js 18 or newer" "nodejs" node
	need "npm" "npm" npm
	;;
bench)
	need "wrk" "wrk" wrk
	need "nginx, with its sub module" "nginx-light" nginx
	need "redis-server (Redis 7 or newer)" "redis-server" redis-server
	;;
client)
	need "Node.js 18 or newer" "nodejs" node
	need "npm" "npm" npm
	;;
*)
	echo "setup: unknown argument $what: give bench, client, or nothing for what the tests need" >&2
	exit 1
	;;
esac

# What the lock files say: the parser, the ClickHouse, the blocker, what the
# client is built with and checked by, and what checks its package. npm notes in
# node_modules what it installed.
packages_of_npm() {
	local directory directories=()
	case "$what" in
	tests) directories=(tests/parse5 tests/engine tests/filters tests/package client) ;;
	client) directories=(client) ;;
	esac
	for directory in "${directories[@]+"${directories[@]}"}"; do
		(
			cd "$(dirname "$0")/../$directory"
			if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
				echo "setup: npm ci in $directory"
				npm ci --no-audit --no-fund
			fi
		)
	done
}

if [ "${#missing[@]}" -eq 0 ]; then
	packages_of_npm
	exit 0
fi

if ! has apt-get; then
	echo "setup: $what: these are needed, and this system has no apt-get to install them with:" >&2
	printf '  %s\n' "${missing[@]}" >&2
	exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! has sudo; then
		echo "setup: run as root: apt-get install ${packages[*]}" >&2
		exit 1
	fi
	root=(sudo)
fi
echo "setup: installing ${packages[*]}"
"${root[@]+"${root[@]}"}" apt-get update -q
"${root[@]+"${root[@]}"}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}"
packages_of_npm
