#!/usr/bin/env bash
# Installs what the tests need and Go does not bring: a C compiler (the race
# detector's), Redis, PHP's FastCGI server, and a browser. Installs nothing when
# all is there.
set -euo pipefail

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
need "a C compiler" "gcc libc6-dev" "${CC:-cc}" gcc clang
need "redis-server (Redis 7 or newer)" "redis-server" redis-server
# Debian has it by its version only.
need "php-fpm" "php-fpm" php-fpm php-fpm8.5 php-fpm8.4 php-fpm8.3 php-fpm8.2
need "Chromium, as chromium in the PATH" "chromium" chromium

[ "${#missing[@]}" -eq 0 ] && exit 0

if ! has apt-get; then
	echo "setup: the tests need these, and this system has no apt-get to install them with:" >&2
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
