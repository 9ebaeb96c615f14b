import { guard, listen } from "./guard.ts";
import { track } from "./track.ts";

const enum Limits {
	/** How often scrolling is looked at, in ms. */
	throttle = 250,
}

let passed = 0;
let waiting: unknown;

/** A new view begins at the top again. */
export function rewindScroll(): void {
	passed = 0;
}

/** Events when a quarter of the page is passed for the first time. */
export function trackScroll(): void {
	listen(window, "scroll", () => {
		waiting ||= setTimeout(look, Limits.throttle);
	});
}

const look = guard(() => {
	waiting = 0;
	const percent = Math.min(100, Math.round((100 * scrollY) / (document.documentElement.scrollHeight - innerHeight)));
	while (passed + 25 <= percent) {
		passed += 25;
		track("scroll-threshold-" + passed, "engagement", { scroll_percentage: percent }, { threshold: passed, actualPercentage: percent });
	}
});
