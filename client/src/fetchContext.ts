import { decisions } from "./consent.ts";
import { pageContext, readContext } from "./context.ts";
import { updateGoogle } from "./googleConsent.ts";
import { debug } from "./guard.ts";
import { encode } from "./json.ts";
import { fromCache } from "./navigationTiming.ts";
import { context, expired, living, proof, renew, take, variable } from "./session.ts";
import { call } from "./transport.ts";

/** Ends when the context that is being fetched is there, or can't be had. */
export let fetching: Promise<void> | undefined;

async function replace(): Promise<void> {
	if (!expired()) await call("events/session/track", () => encode(proof()));
	const c = readContext((await call("session/context?campaign_id=" + context.campaignId)).body);
	if (!c) return;
	const begun = c.userId !== context.userId && c.session.createdAt === c.serverTime;
	const next = begun && (!expired() || (await renew())) ? { ...context, consent: c.consent } : c;
	if (decisions) next.consent = context.consent;
	(window as unknown as Record<string, unknown>)[variable] = next;
	take(next);
	dispatchEvent(new Event("firebuzz-session-ready"));
	updateGoogle(next.consent);
}

/**
 * Replaces the page's context by the one that the server would put into the page
 * now.
 *
 * The server answers by cookies alone, which no script sees:
 *
 *   - A session that was there before, or one of our user, is what cookies say,
 *     as they would of a page that is loaded now. It is taken.
 *   - One that has begun with this very call, for somebody else, means that
 *     cookies say nothing: consent, the site or the browser has none. Taking it
 *     would cut the visit in two. So the page's own session goes on, and is
 *     renewed by its token if it is over. Where that is refused, the token is
 *     another deployment's or too old, and there is nothing else to take.
 *
 * Cookies that are allowed and missing are set for the page's own session first,
 * where it lives: else the call would begin somebody else's, and leave them in
 * the browser. A page that was fetched ahead brought none.
 *
 * Consent is the browser's in both cases; but what was decided in this page is
 * newer, and may be on its way yet. On another origin the API gets no cookies,
 * so there is nothing to ask.
 */
function fetchContext(aged?: boolean): void {
	if (aged && context.apiBaseUrl === location.origin) fetching = replace().catch(debug);
}

/** Of a document out of history or a cache the context may be of another session, consent or deployment. */
export function refreshCached(): void {
	fetchContext(fromCache());
}

/**
 * A view of a page whose session is another by now, or can't be renewed. The line's
 * own successor comes first: its answer sets the cookies that are missing.
 */
export async function refreshRenewed(): Promise<void> {
	fetchContext(!(await living()) || pageContext(variable)?.session.sessionId !== context.session.sessionId);
}
