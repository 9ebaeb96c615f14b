import { referencePurposes } from "./consent.ts";
import { pathMatch } from "./describe.ts";
import { debug, listen } from "./guard.ts";
import { encode } from "./json.ts";
import { signalAfter } from "./signalAfter.ts";
import type { PageSession } from "./start.ts";
import { whenLoaded } from "./when.ts";

/*
 * Links to other sites pass on where the visitor came from, and by which click,
 * so that what the visitor does there can be counted for this session.
 */

/** The parameter that carries the click id. Sites that a visitor comes to know it by this name. */
const parameter = "frbzz_ci";

/** Parameters of the page's URL that go on to a link that has none of its own. */
const campaign = "utm_source utm_medium utm_campaign utm_term utm_content ref source".split(" ");

/** Likewise: those that name a click on an ad, and so a person. */
const ads = "fbclid gclid msclkid ttclid".split(" ");

const enum Limits {
	/** First wait before a click id is asked for again, and the longest, in ms; each is twice the last. */
	firstWait = 500,
	longestWait = 60_000,
	/** Of the waits, those that nobody has to point at a link for. */
	unasked = 10_000,
	/** Longest wait for an answer, in ms. */
	patience = 10_000,
}

let hosts: string[];

/** The click id, and the session that it is of. */
let clickID = "";
let clickOf = "";

let asking: boolean | undefined;
let wait: number = Limits.firstWait;
/** When it may be asked for again, by performance.now(). */
let notBefore = 0;
let again: ReturnType<typeof setTimeout> | undefined;

/** Links as they were, and as they were made. */
const made = new WeakMap<HTMLAnchorElement, { from: string; to: string }>();

/** The page's session, whoever started it. What a page keeps there of its own is none. */
function session(): PageSession | undefined {
	const { firebuzzSession } = globalThis as { firebuzzSession?: unknown };
	return (firebuzzSession as PageSession)?.getContext ? (firebuzzSession as PageSession) : undefined;
}

/** Whether the visitor agrees. The reference manager may have been told something that the page has not heard of yet. */
function agreed(to: "analytics" | "marketing"): boolean {
	const consent = session()?.getContext()?.consent;
	const reference = referencePurposes();
	if (!consent || (reference && !reference[to])) return false;
	return consent[to] || (/pending|frbzz/.test(consent.source) && !!reference);
}

/**
 * Asks the server for the session's click id, unless it is known. There may be
 * none for the moment: a yes may not be recorded yet.
 */
async function ask(): Promise<void> {
	const s = session();
	const context = s?.getContext();
	if (!s || !context) return;
	if (!agreed("analytics")) {
		// After another yes it has to be given anew.
		clickID = clickOf = "";
		return;
	}
	if (asking || performance.now() < notBefore || (clickOf === context.session.sessionId && !s.isSessionExpired())) return;
	asking = true;
	clearTimeout(again);
	let retryAfter = 0;
	try {
		// A page that is prerendered gets none until somebody looks at it.
		await s.performInitialization();
		if (await s.renewSessionWithPreservation()) {
			const now = s.getContext()!;
			const { userActivation } = navigator as { userActivation?: { hasBeenActive: boolean } };
			// In another site's frame there is none before it is a visit.
			const body = encode({ token: now.session.token, user_activation: (self !== top && userActivation?.hasBeenActive) || undefined });
			const response = await fetch(now.apiBaseUrl + "/client-api/v1/events/session/init", { method: "POST", body, keepalive: true, signal: signalAfter(Limits.patience) });
			retryAfter = 1000 * +response.headers.get("Retry-After")! || 0;
			const id = response.ok && (await response.json()).data.click_id;
			// Session or consent may be another since it was asked for.
			if (id && s.getContext() === now) {
				clickID = id;
				clickOf = now.session.sessionId;
				wait = Limits.firstWait;
				return;
			}
		}
	} finally {
		asking = false;
		if (clickOf !== s.getContext()?.session.sessionId) {
			const pause = Math.max(wait, retryAfter);
			notBefore = performance.now() + pause;
			if (wait < Limits.unasked) again = setTimeout(due, pause);
			wait = Math.min(2 * wait, Limits.longestWait);
		}
	}
}

const learn = (): Promise<void> => ask().catch(debug);

/** The pause is over, even if the timer was a moment early. */
function due(): void {
	notBefore = 0;
	learn();
}

/** Session or consent is another, or the browser is online: what was in vain may not be now. */
function learnAnew(): void {
	wait = Limits.firstWait;
	due();
}

/** Whether a link leads to a site that is told. */
function leads(link: HTMLAnchorElement): boolean {
	// Apps have schemes of their own, some with hosts.
	if (!/^https?:$/.test(link.protocol) || link.origin === location.origin || link.closest("[data-session-plain]")) return false;
	return hosts.some((h) => (h[0] === "*" ? link.hostname.endsWith(h.slice(1)) : link.hostname === h));
}

/**
 * Adds what is missing. What stands there stays as it is, to the letter: it may be
 * signed. What was added before goes first, since consent or session may be
 * another by now; unless the page has changed the link since.
 */
function decorate(link: HTMLAnchorElement): void {
	const last = made.get(link);
	const from = last?.to === link.search ? last.from : link.search;
	const there = new URLSearchParams(from);
	const here = new URLSearchParams(location.search);
	let search = from;
	const add = (name: string, value: string | null) => {
		if (value && !there.has(name)) search += (search ? "&" : "?") + name + "=" + encodeURIComponent(value);
	};
	for (const name of campaign) add(name, here.get(name));
	if (agreed("marketing")) for (const name of ads) add(name, here.get(name));
	if (agreed("analytics")) add(parameter, clickID);
	if (search !== link.search) link.search = search;
	made.set(link, { from, to: link.search });
}

function meant(e: Event): void {
	const link = pathMatch(e, "a[href],area[href]") as HTMLAnchorElement | undefined;
	if (!link || !leads(link)) return;
	learn();
	decorate(link);
}

/**
 * Decorates links to the hosts (`*.example.com` for all below, `*` for all other
 * sites) when the visitor is about to follow them: with the page's campaign
 * parameters, and with click ids while consent allows it. Called again, it is for
 * other hosts. On a server nothing happens.
 */
export function decorateLinks(...to: string[]): void {
	const first = !hosts;
	hosts = to.map((host) => host.toLowerCase());
	if (!first || typeof document === "undefined") return;
	// A link is pointed at, pressed or reached by keys before it is followed:
	// what follows it, and what reports that, finds it decorated.
	listen(window, "pointerover pointerdown focusin click auxclick", meant, true);
	// The click id is on its way before it is needed.
	listen(window, "firebuzz-session-ready firebuzz-session-change online", learnAnew);
	whenLoaded(learn);
}
