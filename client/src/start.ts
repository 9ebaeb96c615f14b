import { guard } from "./guard.ts";
import { SessionManager } from "./manager.ts";
import { connect } from "./session.ts";
import { when } from "./when.ts";

/** What a page lets run with its session. */
export type Run = (session: typeof SessionManager) => void;

/** What `window.firebuzzSession` is, once the page's session has started. */
export type PageSession = typeof SessionManager & {
	/** Calls f; before there is a session, a page pushes to an array. */
	push(f: Run): void;
};

/** The global by which scripts of a page find its one session. A server, which may import this too, has no window. */
export const page = globalThis as { firebuzzSession?: PageSession | Run[]; __DISABLE_ANALYTICS__?: unknown };

/** What a page's own code throws is the page's to see, as a rejection that nobody handles, and keeps nothing else from running. */
const run = async (f: Run) => f(SessionManager);

/**
 * Starts the page's session with the context in the global of that name, or in
 * the usual one, unless another script has; then comes after that. A context may
 * come later than the script.
 */
export const start: (variable?: string, then?: () => void) => void = guard((variable, then) => {
	let before: PageSession | Run[];
	when(
		window,
		"firebuzz-session-ready",
		() => !Array.isArray((before = page.firebuzzSession || [])) || page.__DISABLE_ANALYTICS__ || !connect(variable),
		() => {
			page.firebuzzSession = { ...SessionManager, push: run };
			SessionManager.performInitialization().then(then);
			(before as Run[]).forEach(run);
		},
	);
});
