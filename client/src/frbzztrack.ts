import { bareURL } from "./bareURL.ts";
import { encode } from "./json.ts";
import { signalAfter } from "./signalAfter.ts";
import { uuid } from "./uuid.ts";

/*
 * What other sites include, shops say, to tell of conversions by visitors who
 * came there by a link from a landing page:
 *
 *	<script src="https://lp.example.com/track.js" async></script>
 *	<script>
 *		window.frbzztrack = window.frbzztrack || function () { (frbzztrack.q = frbzztrack.q || []).push(arguments) };
 *		frbzztrack("purchase", 49.9, "EUR", "dynamic", "order-1234");
 *	</script>
 *
 * Whose conversion it is, is in the URL that the visitor came by. Nothing is kept
 * on the site. The file is the same for everyone: it calls the API of the host
 * that it came from. Nothing that goes wrong here is the site's to see, but for
 * what its makers have to know, in the console.
 */

/**
 * Reports a conversion: its name, value, currency (ISO 4217), whether the value is
 * `dynamic` or `static`, and, if there is one, what makes it the only one of its
 * name, an order's number say: reported again, on a reload, it counts once.
 */
type Report = (eventId: string, value?: number, currency?: string, valueType?: string, unique?: string | number | null) => void;

/** What the page may have put there before this was loaded, its calls in q. */
type Early = Report & { q?: ArrayLike<Parameters<Report>>; url?: string };

/** A conversion that nobody has taken yet. */
interface Waiting {
	body: string;
	/** How often it has been sent. */
	tries: number;
	/** It is on its way, and goes on when the page is left. */
	sent: boolean;
}

const enum Limits {
	/** How often a conversion that got no answer is sent again. */
	retries = 6,
	/** How long it waits for that first, in ms; then twice that, and no less than the server asks for. */
	wait = 1000,
	/** Longest wait for an answer, in ms. */
	patience = 10_000,
}

const page = window as unknown as { frbzztrack?: Early };

function warn(...what: unknown[]): void {
	console.warn("frbzztrack:", ...what);
}

const waiting = new Set<Waiting>();

async function send(url: string, one: Waiting): Promise<void> {
	let wait = Limits.wait << one.tries++;
	one.sent = true;
	try {
		// text/plain needs no preflight. With keepalive it goes on when the page is left.
		const response = await fetch(url, { method: "POST", body: one.body, keepalive: true, credentials: "omit", headers: { "Content-Type": "text/plain" }, signal: signalAfter(Limits.patience) });
		const { status } = response;
		if (status < 500 && status !== 429 && status !== 408) {
			waiting.delete(one);
			if (status !== 200) {
				const { code, error } = await response.json();
				warn(`${code}: ${error}`);
			}
			return;
		}
		wait = Math.max(wait, 1000 * +response.headers.get("Retry-After")! || 0);
	} catch (error) {
		if (!waiting.has(one)) return warn(error); // an answer that is none of ours
	}
	one.sent = false;
	if (one.tries <= Limits.retries) setTimeout(() => waiting.has(one) && !one.sent && send(url, one), wait);
	else waiting.delete(one);
}

function start({ src }: HTMLScriptElement): void {
	const url = new URL("/client-api/v1/events/external-track", src).href;
	/** The click id, as the link that led here had it. */
	const clickID = new URLSearchParams(location.search).get("frbzz_ci");

	const report: Report = (eventId, value = 0, currency = "USD", valueType = "dynamic", unique) => {
		if (!clickID) return console.debug("frbzztrack: this page's URL has no frbzz_ci, so nothing is reported");
		if (!Number.isFinite(+value)) warn("this value is no number, and counts as 0:", value);
		const body = encode({
			click_id: clickID,
			event_id: eventId,
			event_value: value,
			event_value_currency: currency,
			event_value_type: valueType,
			event_uuid: unique == null || unique === "" ? uuid() : String(unique),
			page_url: bareURL(location.href),
			referrer_url: bareURL(document.referrer) || null,
			viewport_width: innerWidth,
			viewport_height: innerHeight,
		});
		const one = { body, tries: 0, sent: false };
		waiting.add(one);
		send(url, one);
	};

	/** What waits for the page to be parsed. */
	const early = new Set<() => void>();
	const run = (f: () => void) => early.delete(f) && f();
	/** Runs f when there is a viewport to tell of, and somebody looks at it; at the latest when the page is left. */
	const when = (f: () => void): void => {
		const later = (type: string, then: () => void) => document.addEventListener(type, then, { once: true });
		if ((document as { prerendering?: boolean }).prerendering) return later("prerenderingchange", () => when(f));
		early.add(f);
		if (document.readyState === "loading") later("DOMContentLoaded", () => run(f));
		else run(f);
	};
	const guarded: Report = (...args) =>
		when(() => {
			try {
				report(...args);
			} catch (error) {
				warn(error);
			}
		});

	addEventListener("pagehide", () => {
		early.forEach(run);
		waiting.forEach((one) => {
			if (!("keepalive" in Request.prototype)) navigator.sendBeacon(url, one.body);
			else if (!one.sent) send(url, one);
		});
	});
	const called = page.frbzztrack?.q;
	page.frbzztrack = Object.assign(guarded, { url });
	for (const call of Array.from(called || [])) guarded(...call);
}

try {
	const script = document.currentScript as HTMLScriptElement | null;
	// Included twice, it is there already.
	if (!script?.src) warn('include this file by <script src="https://…/track.js">, not as a module or by its text: its URL says where to report to');
	else if (!page.frbzztrack?.url) start(script);
	else if (!page.frbzztrack.url.startsWith(new URL(script.src).origin)) warn("there are two of this file, of different hosts: the first one reports");
} catch (error) {
	warn(error);
}
