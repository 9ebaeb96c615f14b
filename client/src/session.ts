import { call } from "./transport.ts";
import { type Context, type Session } from "./context.ts";
import { exclusively } from "./exclusively.ts";
import { debug, guard } from "./guard.ts";
import { encode } from "./json.ts";
import { clock } from "./pageTime.ts";
import { servedAgo } from "./servedAgo.ts";
import { joinTabs } from "./tabs.ts";

/** Longest wait for another tab's renewal, in ms: what it asked for comes to the same. */
const otherTabs = 1000;

/** The page's context, with the session that it has now. */
export let context: Context;

/** Of what tabs share about this campaign. */
export const name = (): string => "frbzz_" + context.campaignId;

let tell: (session: Session) => void;
let renewing: Promise<boolean> | undefined;

/** Begins with what the server put into the page. */
export function begin(c: Context): void {
	context = c;
	const ago = servedAgo();
	if (ago && c.serverTime) clock.set(c.serverTime, ago);
	tell = joinTabs(name(), adopt);
}

/** Takes a context that replaces the page's. */
export function take(c: Context): void {
	context = c;
	guard(dispatchEvent)(new Event("firebuzz-session-change"));
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

/** Whether there is a session that lives, after renewing it if need be. */
export async function living(): Promise<boolean> {
	return !expired() || renew();
}

/** Asks for the successor, once for all who ask at a time, in this tab and in others. */
export function renew(): Promise<boolean> {
	const ended = context.session;
	// Another tab may tell of it while this one waits.
	return (renewing ||= exclusively(name(), otherTabs, async () => context.session !== ended || succeed(ended))
		.catch(debug)
		.then((ok) => {
			renewing = undefined;
			return !!ok;
		}));
}

async function succeed(ended: Session): Promise<boolean> {
	const { body } = await call("events/session/renew", encode({ token: ended.token }));
	const data = body?.data;
	if (!data?.token) return false;
	const session: Record<string, unknown> & Session = { ...ended };
	// expires_at is our expiresAt, and so on.
	for (const name of Object.keys(data)) session[name.replace(/_(.)/g, (_, c) => c.toUpperCase())] = data[name];
	adopt(session);
	tell(session);
	// One that lives by the server and not by us: our clock is wrong, and the
	// answer did not tell the time.
	if (expired()) clock.set(session.createdAt);
	return true;
}
