import { defaultVariable } from "./context.ts";
import { start } from "./start.ts";

/*
 * What a page runs that the server added this script to. The global is the
 * SessionManager; a page may use it before it is there:
 *
 *	(window.firebuzzSession ||= []).push((session) => session.trackEvent("trial"));
 *
 * The server names another variable behind the script's own URL.
 */
start(import.meta.url.split("#")[1] || defaultVariable);
