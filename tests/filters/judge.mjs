// Reads {rules, requests: [{url, type, page}]} and writes, for each request, the
// rule that blocks it, or "".
import { FiltersEngine, Request } from "@ghostery/adblocker";
import { readFileSync } from "node:fs";

const { rules, requests } = JSON.parse(readFileSync(0, "utf8"));
const engine = FiltersEngine.parse(rules, { debug: true });
const verdicts = requests.map(({ url, type, page }) => {
	const { match, filter } = engine.match(Request.fromRawDetails({ url, type, sourceUrl: page }));
	return match ? String(filter?.rawLine ?? filter) : "";
});
process.stdout.write(JSON.stringify(verdicts));
