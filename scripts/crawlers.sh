#!/usr/bin/env bash
# Takes the list of programs' user agents anew from the npm package
# crawler-user-agents: crawlers.sh [<version>]. Prints what changed; look it
# over for words that stand in the user agents of apps too.
set -euo pipefail

version=${1:-latest}
to=$(cd "$(dirname "$0")/.." && pwd)/sessionctx/visitor
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

cd "$tmp"
npm pack --silent "crawler-user-agents@$version" >/dev/null
tar xzf crawler-user-agents-*.tgz
node - package >list.txt <<'JS'
const {readFileSync} = require('fs');
const read = name => JSON.parse(readFileSync(`${process.argv[2]}/${name}`));
console.log('# Made by scripts/crawlers.sh from the npm package crawler-user-agents');
console.log(`# ${read('package.json').version}; its licence is crawlers.LICENSE. A line: kind, regular expression.`);
for (const {pattern, tags} of read('crawler-user-agents.json')) {
	if (/[\n\r]/.test(pattern)) throw new Error(`a pattern of two lines: ${pattern}`);
	console.log(`${tags[0]} ${pattern}`);
}
JS
cp package/LICENSE "$to/crawlers.LICENSE"
diff "$to/crawlers.txt" list.txt || true
mv list.txt "$to/crawlers.txt"
