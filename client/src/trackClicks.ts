import { bareURL } from "./bareURL.ts";
import { describe, pathMatch } from "./describe.ts";
import type { EventOptions } from "./event.ts";
import { listen } from "./guard.ts";
import { track, trackEvent } from "./track.ts";

/** Whether links may be decorated: build/main.go says it of each script. */
declare const decorates: boolean;

/**
 * Clicks on links to other origins, and on elements that name an event:
 *
 *	<button data-session-event="trial" data-session-event-value="49" data-session-event-currency="EUR">
 *
 * Nothing is prevented and nothing waited for: leaving the page sends what waits.
 */
export function trackClicks(): void {
	listen(window, "click auxclick", clicked, true);
}

function clicked(e: MouseEvent): void {
	if (e.button > 1) return; // the menu's
	const link = pathMatch(e, "a[href],area[href]") as HTMLAnchorElement | undefined;
	// mailto: and javascript: have no host.
	if (link?.host && link.origin !== location.origin) {
		track(
			"external-link-click",
			"engagement",
			{ clicked_url: link.href, clicked_element: describe(link) },
			{ text: link.textContent!.trim().slice(0, 99), target: link.target, original_url: bareURL(link.href), has_click_id: decorates && /frbzz_ci=/.test(link.href) },
			0,
		);
	}
	const named = !e.button && pathMatch(e, "[data-session-event]");
	if (named) {
		const { sessionEvent, sessionEventType, sessionEventValue, sessionEventCurrency } = named.dataset;
		trackEvent(sessionEvent!, {
			type: sessionEventType as EventOptions["type"],
			value: sessionEventValue ? Number(sessionEventValue) : undefined,
			currency: sessionEventCurrency,
			clicked_element: describe(named),
		});
	}
}
