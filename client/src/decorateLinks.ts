import { pathMatch } from "./describe.ts";
import { debug, listen } from "./guard.ts";
import { encode } from "./json.ts";
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

/** Those that name a click, and so a person: with consent only. */
const clicks = "fbclid gclid msclkid ttclid".split(" ");

let hosts: string[];
let clickID = "";

/** The session that clickID is of, or is being asked for. */
let asked = "";

/** All click ids that this page has put into links, so that they can be taken back. */
const given = new Set<string>();

const session = (): PageSession | undefined => {
	const { firebuzzSession } = globalThis as { firebuzzSession?: unknown };
	return (firebuzzSession as PageSession)?.getContext ? (firebuzzSession as PageSession) : undefined;
};

/** Asks the server for the session's click id, unless it is known. */
async function learn(): Promise<void> {
	const s = session();
	const context = s?.getContext();
	if (!s || !context?.consent.analytics) {
		asked = clickID = "";
		return;
	}
	const { sessionId, token } = context.session;
	if (asked === sessionId && !s.isSessionExpired()) return;
	asked = sessionId;
	try {
		// A page that is prerendered gets none until somebody looks at it.
		await s.performInitialization();
		// One that is renewed by this is another: its change asks again.
		if (!(await s.renewSessionWithPreservation()) || s.getContext()!.session.sessionId !== sessionId) return;
		const response = await fetch(context.apiBaseUrl + "/client-api/v1/events/session/init", { method: "POST", body: encode({ token }), keepalive: true });
		const { data } = await response.json();
		if (asked === sessionId) clickID = data.click_id || "";
	} catch (error) {
		debug(error);
		if (asked === sessionId) asked = ""; // the next link asks again
	}
}

/** Whether a link leads to a site that is told. */
function leads(link: HTMLAnchorElement): boolean {
	// mailto: and javascript: have no host.
	if (!link.host || link.origin === location.origin) return false;
	return hosts.some((h) => (h[0] === "*" ? link.hostname.endsWith(h.slice(1)) : link.hostname === h));
}

/** Adds what is missing. What stands there stays as it is, to the letter: it may be signed. */
function decorate(link: HTMLAnchorElement): void {
	const ours = new RegExp(`[?&]${parameter}=([^&]*)`).exec(link.search);
	let search = link.search;
	if (ours && given.has(ours[1]!) && ours[1] !== clickID) {
		search = search.replace(ours[0], "").replace(/^&/, "?");
	}
	const there = new URLSearchParams(search);
	const here = new URLSearchParams(location.search);
	const add = (name: string, value: string | null) => {
		if (value && !there.has(name)) search += (search ? "&" : "?") + name + "=" + encodeURIComponent(value);
	};
	for (const name of campaign) add(name, here.get(name));
	if (session()?.getContext()?.consent.analytics) {
		for (const name of clicks) add(name, here.get(name));
		add(parameter, clickID);
		if (clickID) given.add(clickID);
	}
	if (search !== link.search) link.search = search;
}

const links = "a[href],area[href]";

function meant(e: Event): void {
	const link = pathMatch(e, links) as HTMLAnchorElement | undefined;
	if (!link || !leads(link)) return;
	learn();
	decorate(link);
}

/**
 * Decorates links to the hosts (`*.example.com` for all below, `*` for all other
 * sites) when the visitor is about to follow them: with the page's campaign
 * parameters, and with the click id while consent allows it. Called again, it is
 * for other hosts. On a server nothing happens.
 */
export function decorateLinks(...to: string[]): void {
	const first = !hosts;
	hosts = to;
	if (!first || typeof document === "undefined") return;
	// A link is pointed at, pressed or reached by keys before it is followed:
	// what follows it, and what reports that, finds it decorated.
	listen(window, "pointerover pointerdown focusin click auxclick", meant, true);
	listen(window, "firebuzz-session-change", () => asked && learn());
	// The click id is on its way before it is needed, where it can be.
	whenLoaded(() => [...document.querySelectorAll<HTMLAnchorElement>(links)].some(leads) && learn());
}
