import { debug } from "./guard.ts";
import { track } from "./track.ts";
import { whenLoaded } from "./whenLoaded.ts";

/** How long after the page has loaded the file is, in ms: what the page itself begins then goes first. The browser keeps what has happened. */
const later = 1000;

/** Reports web vitals by a file beside this script, which is loaded when the page has done its work. */
export function trackVitals(file: string): void {
	const path = "./" + file; // written within import(), esbuild would bundle all that it may stand for
	const load = (): Promise<typeof import("./runtime-idle.ts")> => import(path);
	whenLoaded(() => setTimeout(() => load().then((idle) => idle.reportVitals(track)).catch(debug), later));
}
