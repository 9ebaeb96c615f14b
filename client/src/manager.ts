import { call } from "./transport.ts";
import { followReference, onConsentChange } from "./consent.ts";
import { pageContext, type Attribution, type Context, type Session } from "./context.ts";
import type { EventOptions } from "./event.ts";
import { refreshCached } from "./fetchContext.ts";
import { fillFields } from "./formFields.ts";
import { guard, listen } from "./guard.ts";
import { encode } from "./json.ts";
import { trackPage } from "./pageEvents.ts";
import { leave, restore, retry } from "./queue.ts";
import { adopt, context, expired, living, proof, take, variable } from "./session.ts";
import { trackEvent } from "./track.ts";
import { trackClicks } from "./trackClicks.ts";
import { trackForms } from "./trackForms.ts";
import { trackScroll } from "./trackScroll.ts";
import { when } from "./when.ts";

/** What the cookies of the reference client hold, and more: all of it is the context's. */
export type Cookie = Context & Session;

let started: Promise<void> | undefined;

const start = guard(() => {
	refreshCached();
	restore();
	trackPage();
	trackScroll();
	trackClicks();
	trackForms();
	fillFields();
	listen(window, "firebuzz-session-change", () => fillFields());
	listen(window, "online", retry);
	listen(window, "firebuzz-session-ready", () => {
		const c = pageContext(variable);
		if (c && c.session.sessionId !== context.session.sessionId) take(c);
	});
	listen(window, "visibilitychange resume pageshow", wake, true);
	// A visit in a frame is told of when it becomes one, not with the next event.
	if (self !== top) addEventListener("click", () => setTimeout(trackSession), { capture: true, once: true });
});

/** A page that is prerendered does nothing until somebody looks at it. Nor does it wait by the page's Promise, which may be another. */
async function activated(): Promise<void> {
	const early = () => (document as { prerendering?: boolean }).prerendering;
	await { then: (go: () => void) => when(document, "prerenderingchange", early, go) };
	start();
}

/** A hidden page may never be seen again. To one that is back the session may be over, and its visitor may have decided elsewhere. */
function wake(): void {
	if (document.hidden) return leave();
	followReference();
	living();
}

async function trackSession(): Promise<boolean> {
	return (await living()) && (await call("events/session/track", () => encode(proof()))).status === 200;
}

const attribution = (): Attribution => context.attribution;
const cookie = (): Cookie | null => (context.consent.analytics ? { ...context, ...context.session } : null);

/**
 * The session of a page's visitor. Ids and expiry are the server's; cookies
 * too, which it sets and removes in its answers. Whatever fails here is the
 * page's no matter: methods give false or null, and nothing throws.
 */
export const SessionManager = {
	/** Starts, once: reports the page's life, and renews the session in time. Resolves when somebody looks at the page. */
	performInitialization: (): Promise<void> => (started ||= activated()),
	/** The session in the page's context, as it is there now. */
	getSessionFromContext: (): Session | null => pageContext(variable)?.session || null,
	/** Whether the session has ended, by the local clock. */
	isSessionExpired: expired,
	/** The page's session, renewed or not. */
	getCurrentSession: (): Session => context.session,
	/** What led here. The server has fixed it with the visit, so there is nothing to do but to read it. */
	initializeAttribution: attribution,
	/** What of that outlives this page, or null where nothing may be kept. */
	loadPersistedAttribution: (): Attribution | null => cookie() && attribution(),
	/** First and current touch, as the server holds them. */
	getAttributionData: attribution,
	/** Takes a session that another part of the page has renewed. One of another line is not taken. */
	updateAfterRenewal: guard(adopt),
	/** Renews a session that has ended; user, segment, variants and first touch stay. False: there is none that lives. */
	renewSessionWithPreservation: living,
	/** A sign of life: makes the session's row, if it isn't there yet. */
	trackSession,
	/** Reports an event of the page's own. */
	trackEvent,
	/** Reports several, in order. */
	trackEvents: guard((events: ({ id: string } & EventOptions)[]) => events.forEach((e) => trackEvent(e.id, e))),
	/** Whether consent allows cookies, as far as this page knows. */
	shouldSetCookies: (): boolean => context.consent.analytics,
	/** Asks the server to set the cookies that consent allows and that are missing. */
	setSessionCookies: trackSession,
	/** Likewise: the server sets all of them in one answer. */
	setAttributionCookie: trackSession,
	/** What the session's cookie stands for, or null where there may be none; the cookie itself is the server's alone. */
	getSessionCookie: cookie,
	/** What the attribution's cookie stands for, likewise. */
	getAttributionCookie: cookie,
	/** The page's context, with session and consent as they are now; another object after each change. */
	getContext: (): Context => context,
	onConsentChange,
	/** A refusal of everything: the server removes its cookies, and records the refusal. */
	clearAllCookies: (): Promise<boolean> => onConsentChange({}),
};
