import { debug } from "./guard.ts";
import { track } from "./track.ts";
import { whenLoaded } from "./when.ts";

const enum Limits {
	/** How long after the page has loaded the file is, in ms: what the page itself begins then goes first. The browser keeps what has happened. */
	later = 1000,
}

/** Reports web vitals by a file beside this script, which is loaded when the page has done its work. */
export function trackVitals(file: string): void {
	const path = "./" + file; // written within import(), esbuild would bundle all that it may stand for
	whenLoaded(() => setTimeout(() => import(path).then((idle: typeof import("./runtime-idle.ts")) => idle.reportVitals(track)).catch(debug), Limits.later));
}
