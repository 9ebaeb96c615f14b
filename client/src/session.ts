import { call } from "./transport.ts";
import { defaultVariable, pageContext, type Context, type Session } from "./context.ts";
import { exclusively } from "./exclusively.ts";
import { fetching } from "./fetchContext.ts";
import { debug } from "./guard.ts";
import { encode } from "./json.ts";
import { clock } from "./pageTime.ts";
import { fromCache, navigationTiming } from "./navigationTiming.ts";
import { joinTabs } from "./tabs.ts";

const enum Limits {
	/** Longest wait for another tab's renewal, in ms: what it asked for comes to the same. */
	otherTabs = 1000,
}

/** The page's context, with the session that it has now. */
export let context: Context;

/** The global that has the page's context. */
export let variable: string;

/** Of what tabs share about this campaign. */
export const shared = (): string => "frbzz_" + context.campaignId;

let tell: (session: Session) => void;
let renewing: Promise<boolean> | undefined;

/**
 * Takes the context that the page has in the global of that name, or in the
 * usual one. False: there is none that the API would take, and nothing happens.
 * A page has one session.
 */
export function connect(name?: string): boolean {
	const c = pageContext((variable = name || defaultVariable));
	if (!c) return false;
	context = c;
	// A page out of history or a cache carries the time of its making.
	const { responseStart } = navigationTiming();
	if (responseStart && !fromCache()) clock.set(c.serverTime, performance.now() - responseStart);
	tell = joinTabs(shared(), adopt);
	return true;
}

/** Takes a context that replaces the page's. */
export function take(c: Context): void {
	context = c;
	dispatchEvent(new Event("firebuzz-session-change"));
}

/** Takes a session that succeeds the page's. Tabs of other visitors' sessions may tell of theirs. */
export function adopt(session: Session): void {
	const ours = context.session;
	if (session.token && session.originalSessionId === ours.originalSessionId && session.expiresAt > ours.expiresAt) take({ ...context, session });
}

/** Whether the session has ended, by the local clock; the server is never asked. */
export function expired(): boolean {
	return clock.now() >= context.session.expiresAt;
}

/**
 * What proves the session to the API, and that it is a visit: in another site's
 * frame only what the visitor does makes it one. A page that is left can't
 * renew: ids alone stand for the living session of the line.
 */
export function proof(leaving?: boolean): Record<string, unknown> {
	const { userActivation } = navigator as { userActivation?: { hasBeenActive: boolean } };
	const { token, sessionId } = context.session;
	return {
		...(leaving && expired() ? { session_id: sessionId, user_id: context.userId, campaign_id: context.campaignId } : { token }),
		user_activation: (self !== top && userActivation?.hasBeenActive) || undefined,
	};
}

/** Whether there is a session that lives, after renewing it if need be; once it is known which is the page's. */
export async function living(): Promise<boolean> {
	await fetching;
	return !expired() || renew();
}

/** Asks for the successor, once for all who ask at a time, in this tab and in others. */
export function renew(): Promise<boolean> {
	const ended = context.session;
	// Another tab may tell of it while this one waits.
	return (renewing ||= exclusively(shared(), Limits.otherTabs, async () => context.session !== ended || succeed(ended))
		.catch(debug)
		.then((ok) => {
			renewing = undefined;
			return !!ok;
		}));
}

async function succeed(ended: Session): Promise<boolean> {
	const { body } = await call("events/session/renew", () => encode({ token: ended.token }));
	const data = body?.data;
	if (!data?.token) return false;
	const session: Record<string, unknown> & Session = { ...ended };
	// expires_at is our expiresAt, and so on.
	for (const [name, value] of Object.entries(data)) session[name.replace(/_(.)/g, (_, c) => c.toUpperCase())] = value;
	adopt(session);
	tell(session);
	// One that lives by the server and not by us: our clock is wrong, and the
	// answer did not tell the time.
	if (expired()) clock.set(session.createdAt);
	return true;
}
