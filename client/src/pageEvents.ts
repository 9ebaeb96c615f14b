import { bareURL } from "./bareURL.ts";
import { refreshRenewed } from "./fetchContext.ts";
import { listen } from "./guard.ts";
import { navigationTiming } from "./navigationTiming.ts";
import { onRouteChange } from "./onRouteChange.ts";
import { leave } from "./queue.ts";
import { beginView, timeOnPage, track } from "./track.ts";
import { rewindScroll } from "./trackScroll.ts";
import { when, whenLoaded } from "./when.ts";

const enum Limits {
	/** Longest that the first events wait for the page to load, so that all go in one request; in ms. */
	untilLoaded = 5000,
}

let left = true;

function view(): void {
	// A tab that is opened in the background may never be seen.
	when(document, "visibilitychange", () => document.hidden, () => {
		beginView();
		rewindScroll();
		left = false;
		track("page-view", "engagement", {}, { title: document.title, url: bareURL(location.href), path: location.pathname, referrer: bareURL(document.referrer) }, 0);
		refreshRenewed();
	});
}

/** The browser's record may have the time a moment later only. */
function reached(id: string, field: string, name: string, mark: "domContentLoadedEventStart" | "loadEventStart"): void {
	const at = Math.round(navigationTiming()[mark] || performance.now());
	track(id, "system", { [field]: at }, { readyState: document.readyState, [name]: at }, Limits.untilLoaded);
}

function ready(): void {
	reached("dom-ready", "dom_ready_time", "domReadyTime", "domContentLoadedEventStart");
}

function loaded(): void {
	reached("page-load", "page_load_time", "loadTime", "loadEventStart");
	view();
}

/** The life of a page: ready, loaded, looked at, left. */
export function trackPage(): void {
	when(document, "DOMContentLoaded", () => document.readyState === "loading", ready);
	whenLoaded(loaded);
	listen(window, "pageshow", (e: PageTransitionEvent) => e.persisted && view());
	onRouteChange(view);
	listen(window, "pagehide", () => {
		if (!left) {
			left = true;
			track("page-unload", "system", {}, { total_time_on_page: timeOnPage(), page_title: document.title, page_url: bareURL(location.href) });
		}
		leave();
	});
}
