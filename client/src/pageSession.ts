import type { ConsentDetails, Purposes } from "./consent.ts";
import { defaultVariable, pageContext, type Attribution, type Context, type Session } from "./context.ts";
import type { EventOptions } from "./event.ts";
import type { Cookie, SessionManager as Manager } from "./manager.ts";
import { debug } from "./guard.ts";
import { page, start, type PageSession, type Run } from "./start.ts";

/*
 * The session for code that is bundled into pages: it may run on a server too,
 * before there is a context, or in a page that the server gave the runtime to.
 * All that share a page share the session of window.firebuzzSession.
 */

/** Most calls that wait for a session; a page may never have one. */
const longest = 200;

const onServer = typeof document === "undefined";

/** The page's session, once one has started. What a page keeps there of its own, such as an element of that id, is none. */
function started(): PageSession | undefined {
	try {
		const session = page.firebuzzSession as PageSession | undefined;
		return session?.trackEvent && session;
	} catch (error) {
		debug(error);
		return undefined;
	}
}

/** Runs f with the session, once there is one. False: it never will, since too much waits, or the page keeps something of its own there. */
function whenStarted(f: Run): boolean {
	if (onServer) return false;
	try {
		const session = started() || (page.firebuzzSession ||= []);
		if (Array.isArray(session) && session.length >= longest) return false;
		session.push(f);
		return true;
	} catch (error) {
		debug(error);
		return false;
	}
}

let variable = defaultVariable;

/**
 * Starts the page's session, with the context in the global of that name,
 * unless it has started: a page has one, whoever calls this how often. Gives
 * whether there is one now. Where the context comes later, the session starts
 * then; on a server nothing happens.
 */
export function connect(name: string = defaultVariable): boolean {
	if (onServer) return false;
	start((variable = name));
	return !!started();
}

/**
 * The session of a page's visitor. Ids and expiry are the server's; cookies
 * too, which it sets and removes in its answers. Methods never throw. Before
 * there is a session they give null or false, and those that report something
 * wait for it; on a server they do nothing.
 */
export const SessionManager = {
	/** Starts, once: reports the page's life, and renews the session in time. Resolves when somebody looks at the page; on a server at once. */
	performInitialization: (): Promise<void> => {
		connect(variable);
		return new Promise((resolve) => whenStarted((s) => resolve(s.performInitialization())) || resolve());
	},
	/** The page's context, with session and consent as they are now; another object after each change. */
	getContext: (): Context | null => started()?.getContext() || null,
	/** The session in the page's context, as it is there now. */
	getSessionFromContext: (): Session | null => (!onServer && pageContext(variable)?.session) || null,
	/** Whether the session has ended, by the local clock; or there is none. */
	isSessionExpired: (): boolean => started()?.isSessionExpired() ?? true,
	/** The page's session, renewed or not. */
	getCurrentSession: (): Session | null => started()?.getCurrentSession() || null,
	/** What led here. The server has fixed it with the visit, so there is nothing to do but to read it. */
	initializeAttribution: (): Attribution | null => started()?.getAttributionData() || null,
	/** What of that outlives this page, or null where nothing may be kept. */
	loadPersistedAttribution: (): Attribution | null => started()?.loadPersistedAttribution() || null,
	/** First and current touch, as the server holds them. */
	getAttributionData: (): Attribution | null => started()?.getAttributionData() || null,
	/** Takes a session that another part of the page has renewed. One of another line is not taken. */
	updateAfterRenewal: (session: Session): void => started()?.updateAfterRenewal(session),
	/** Renews a session that has ended; user, segment, variants and first touch stay. False: there is none that lives. */
	renewSessionWithPreservation: async (): Promise<boolean> => !!(await started()?.renewSessionWithPreservation()),
	/** A sign of life: makes the session's row, if it isn't there yet. */
	trackSession: async (): Promise<boolean> => !!(await started()?.trackSession()),
	/** Reports an event of the page's own. */
	trackEvent: (id: string, options?: EventOptions): void => void whenStarted((s) => s.trackEvent(id, options)),
	/** Reports several, in order. */
	trackEvents: (events: ({ id: string } & EventOptions)[]): void => void whenStarted((s) => s.trackEvents(events)),
	/** Whether consent allows cookies, as far as this page knows. */
	shouldSetCookies: (): boolean => !!started()?.shouldSetCookies(),
	/** Asks the server to set the cookies that consent allows and that are missing. */
	setSessionCookies: async (): Promise<boolean> => !!(await started()?.setSessionCookies()),
	/** Likewise: the server sets all of them in one answer. */
	setAttributionCookie: async (): Promise<boolean> => !!(await started()?.setAttributionCookie()),
	/** What the session's cookie stands for, or null where there may be none; the cookie itself is the server's alone. */
	getSessionCookie: (): Cookie | null => started()?.getSessionCookie() || null,
	/** What the attribution's cookie stands for, likewise. */
	getAttributionCookie: (): Cookie | null => started()?.getAttributionCookie() || null,
	/** Tells what the visitor agreed to, also for a session that is yet to start. Resolves with whether the server has recorded that. */
	onConsentChange: (preferences: Partial<Purposes>, details?: ConsentDetails): Promise<boolean> =>
		new Promise((resolve) => whenStarted((s) => resolve(s.onConsentChange(preferences, details))) || resolve(false)),
	/** A refusal of everything: the server removes its cookies, and records the refusal. */
	clearAllCookies: (): Promise<boolean> => SessionManager.onConsentChange({}),
} satisfies Record<keyof typeof Manager, unknown>;
