import { navigationTiming } from "./navigationTiming.ts";

/**
 * How many ms ago the server made the page, or undefined if its time can't be
 * trusted: a page from history or the HTTP cache carries that of its making.
 */
export function servedAgo(): number | undefined {
	const { type, transferSize, decodedBodySize, responseStart } = navigationTiming();
	if (!responseStart || type === "back_forward" || (!transferSize && decodedBodySize)) return;
	return performance.now() - responseStart;
}
