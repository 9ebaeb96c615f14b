import { listen } from "./guard.ts";
import { track } from "./track.ts";

/** How often scrolling is looked at, in ms. */
const throttle = 250;

let passed = 0;
let waiting = false;

/** A new view begins at the top again. */
export function rewindScroll(): void {
	passed = 0;
}

/** Events when a quarter of the page is passed for the first time. */
export function trackScroll(): void {
	listen(window, "scroll", () => {
		if (!waiting) setTimeout(look, throttle);
		waiting = true;
	});
}

function look(): void {
	waiting = false;
	const percent = Math.min(100, Math.round((100 * scrollY) / (document.documentElement.scrollHeight - innerHeight)));
	while (passed + 25 <= percent) {
		passed += 25;
		track("scroll-threshold-" + passed, "engagement", { scroll_percentage: percent }, { threshold: passed, actualPercentage: percent });
	}
}
