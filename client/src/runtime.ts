import { defaultVariable } from "./context.ts";
import { guard } from "./guard.ts";
import { connect, SessionManager } from "./manager.ts";

/*
 * What a page runs that the server added this script to. The global is the
 * SessionManager; a page may use it before it is there:
 *
 *	(window.firebuzzSession ||= []).push((session) => session.trackEvent("trial"));
 */
const page = window as unknown as Record<string, unknown>;
const global = "firebuzzSession";

// The server names another variable behind the script's own URL.
const variable = import.meta.url.split("#")[1] || defaultVariable;

const run = (f: (session: typeof SessionManager) => void) => guard(f)(SessionManager);

const start: () => void = guard(() => {
	const before = page[global] || [];
	if (!Array.isArray(before) || page["__DISABLE_ANALYTICS__"]) return;
	// A context may come later than this script.
	if (!connect(variable)) return addEventListener("firebuzz-session-ready", start, { once: true });
	page[global] = { ...SessionManager, push: run };
	SessionManager.performInitialization();
	before.forEach(run);
});
start();
