import { guard } from "./guard.ts";
import { connect, SessionManager } from "./manager.ts";
import { trackVitals } from "./vitals.ts";

/*
 * What a page runs that the server added this script to. The global is the
 * SessionManager; a page may use it before it is there:
 *
 *	(window.firebuzzSession ||= []).push((session) => session.trackEvent("trial"));
 */
const page = window as unknown as Record<string, unknown>;
const global = "firebuzzSession";

// What the server says of this page stands behind the script's own URL: another
// variable, and the file that reports web vitals (#name,file).
const [variable, vitals] = (import.meta.url.split("#")[1] || "").split(",");

const run = (f: (session: typeof SessionManager) => void) => guard(f)(SessionManager);

const start: () => void = guard(() => {
	const before = page[global] || [];
	if (!Array.isArray(before) || page["__DISABLE_ANALYTICS__"]) return;
	// A context may come later than this script.
	if (!connect(variable)) return addEventListener("firebuzz-session-ready", start, { once: true });
	page[global] = { ...SessionManager, push: run };
	SessionManager.performInitialization().then(() => vitals && trackVitals(vitals));
	before.forEach(run);
});
start();
