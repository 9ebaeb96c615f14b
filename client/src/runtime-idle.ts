import { onCLS } from "web-vitals/onCLS.js";
import { onFCP } from "web-vitals/onFCP.js";
import { onINP } from "web-vitals/onINP.js";
import { onLCP } from "web-vitals/onLCP.js";
import { onTTFB } from "web-vitals/onTTFB.js";
import type { Metric } from "web-vitals";
import { listen } from "./guard.ts";
import type { track } from "./track.ts";

/*
 * What a page loads once it is idle, where web vitals are reported: a module of
 * its own, since most pages have done their work without it.
 */

/** A metric's newest value, and the one that was reported last. */
interface Seen {
	metric: Metric;
	reported?: number;
}

/**
 * Reports web vitals as the page is hidden or left, in the request that this
 * makes anyway: each metric once, and again, by the same id, if it has changed
 * until the page is hidden the next time.
 */
export function reportVitals(report: typeof track): void {
	const seen = new Map<string, Seen>();
	const see = (metric: Metric) => seen.set(metric.id, { ...seen.get(metric.id), metric });
	for (const on of [onCLS, onFCP, onINP, onLCP, onTTFB]) on(see, { reportAllChanges: true });

	const tell = () => {
		for (const one of seen.values()) {
			const { name, rating, id, navigationType } = one.metric;
			const value = rounded(one.metric.value);
			if (value === one.reported) continue;
			const delta = rounded(value - (one.reported || 0));
			report("web-vital", "system", { event_value: value }, { name, value, rating, delta, id, navigationType });
			one.reported = value;
		}
	};
	// Capturing, so that this comes before the runtime sends what waits; and
	// after the library has taken the last entries, whose listener is older.
	listen(window, "pagehide", tell, true);
	listen(window, "visibilitychange", () => document.hidden && tell(), true);
}

/** To thousandths: of ms, and of the score of layout shifts. */
function rounded(value: number): number {
	return Math.round(value * 1000) / 1000;
}
