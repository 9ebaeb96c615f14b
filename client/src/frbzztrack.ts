import { bareURL } from "./bareURL.ts";
import { encode } from "./json.ts";
import { uuid } from "./uuid.ts";

/*
 * What other sites include, shops say, to tell of conversions by visitors who
 * came there by a link from a landing page:
 *
 *	<script src="https://lp.example.com/track.js" async></script>
 *	<script>
 *		window.frbzztrack ||= function () { (frbzztrack.q ||= []).push(arguments) };
 *		frbzztrack("purchase", 49.9, "EUR");
 *	</script>
 *
 * Whose conversion it is, is in the URL that the visitor came by. Nothing is kept
 * on the site, and no cookie is sent. The file is the same for everyone: it calls
 * the API of the host that it came from.
 */

/**
 * Reports a conversion: its name, value, currency (ISO 4217), whether the value is
 * `dynamic` or `static`, and, if there is one, what makes it the only one of its
 * name, an order's number say: reported again, on a reload, it counts once.
 */
type Report = (eventId: string, value?: number, currency?: string, valueType?: string, unique?: string | number) => void;

/** What the page may have put there before this was loaded, its calls in q. */
type Early = Report & { q?: Parameters<Report>[] };

const enum Limits {
	/** How often a conversion that got no answer is sent again. */
	retries = 3,
	/** How long it waits for that first, in ms; then twice that. */
	wait = 1000,
}

const page = window as unknown as { frbzztrack?: Early };
const script = document.currentScript as HTMLScriptElement | null;

/** The click id, as the link that led here had it. */
const clickID = new URLSearchParams(location.search).get("frbzz_ci");

/** Says what a site's makers have to know; the page itself is not disturbed. */
function warn(what: string): void {
	console.warn("frbzztrack: " + what);
}

/** What has been sent and not been answered: a page that is left sends it by beacons. */
const waiting = new Set<string>();

function send(url: string, body: string, tried: number): void {
	const again = () => {
		if (tried < Limits.retries) setTimeout(() => waiting.has(body) && send(url, body, tried + 1), Limits.wait << tried);
		else waiting.delete(body);
	};
	// text/plain needs no preflight. With keepalive it goes on when the page is left.
	fetch(url, { method: "POST", body, keepalive: true, credentials: "omit", headers: { "Content-Type": "text/plain" } }).then((response) => {
		const { status } = response;
		if (status >= 500 || status === 429 || status === 408) return again();
		waiting.delete(body);
		if (status === 200) return;
		return response.json().then((answer: { code?: string; error?: string }) => warn(`${answer.code}: ${answer.error}`));
	}).catch(again);
}

if (script?.src) {
	const url = new URL("/client-api/v1/events/external-track", script.src).href;

	const report: Report = (eventId, value = 0, currency = "USD", valueType = "dynamic", unique = uuid()) => {
		if (!clickID) return; // the visitor came by another way
		const body = encode({
			click_id: clickID,
			event_id: eventId,
			event_value: value,
			event_value_currency: currency,
			event_value_type: valueType,
			event_uuid: String(unique),
			page_url: bareURL(location.href),
			referrer_url: bareURL(document.referrer) || null,
			viewport_width: innerWidth,
			viewport_height: innerHeight,
		});
		waiting.add(body);
		send(url, body, 0);
	};

	/** A page that is not parsed yet has no viewport to tell of. */
	const parsed = (f: () => void) => (document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", f, { once: true }) : f());
	const guarded: Report = (...args) =>
		parsed(() => {
			try {
				report(...args);
			} catch (error) {
				warn(String(error));
			}
		});

	const early = page.frbzztrack?.q || [];
	page.frbzztrack = guarded;
	for (const call of early) guarded(...call);

	addEventListener("pagehide", () => waiting.forEach((body) => navigator.sendBeacon(url, body)));
} else {
	warn("include this file by <script src=\"https://…/track.js\">, not as a module or by its text: its URL says where to report to");
}
