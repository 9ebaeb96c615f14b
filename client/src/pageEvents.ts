import { bareURL } from "./bareURL.ts";
import { listen } from "./guard.ts";
import { navigationTiming } from "./navigationTiming.ts";
import { onRouteChange } from "./onRouteChange.ts";
import { leave } from "./queue.ts";
import { beginView, timeOnPage, track } from "./track.ts";
import { rewindScroll } from "./trackScroll.ts";
import { whenLoaded } from "./whenLoaded.ts";
import { whenVisible } from "./whenVisible.ts";

/** Longest that the first events wait for the page to load, so that all go in one request; in ms. */
const untilLoaded = 5000;

let left = true;

function view(): void {
	whenVisible(() => {
		beginView();
		rewindScroll();
		left = false;
		track("page-view", "engagement", {}, { title: document.title, url: bareURL(location.href), path: location.pathname, referrer: bareURL(document.referrer) }, 0);
	});
}

/** The browser's record may have the time a moment later only. */
function reached(id: string, field: string, name: string, at?: number): void {
	at = Math.round(at || performance.now());
	track(id, "system", { [field]: at }, { readyState: document.readyState, [name]: at }, untilLoaded);
}

function ready(): void {
	reached("dom-ready", "dom_ready_time", "domReadyTime", navigationTiming().domContentLoadedEventStart);
}

function loaded(): void {
	reached("page-load", "page_load_time", "loadTime", navigationTiming().loadEventStart);
	view();
}

/** The life of a page: ready, loaded, looked at, left. */
export function trackPage(): void {
	if (document.readyState === "loading") listen(document, "DOMContentLoaded", ready);
	else ready();
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
