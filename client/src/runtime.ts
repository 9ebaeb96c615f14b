import { start } from "./start.ts";
import { trackVitals } from "./vitals.ts";

/*
 * What a page runs that the server added this script to. The global is the
 * SessionManager; a page may use it before it is there:
 *
 *	(window.firebuzzSession ||= []).push((session) => session.trackEvent("trial"));
 *
 * What the server says of this page stands behind the script's own URL: another
 * variable, and the file that reports web vitals (#name,file).
 */
const [variable, vitals] = (import.meta.url.split("#")[1] || "").split(",");

start(variable, () => vitals && trackVitals(vitals));
