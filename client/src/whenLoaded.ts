import { listen } from "./guard.ts";

/** Runs f once the page has loaded, or at once. */
export function whenLoaded(f: () => void): void {
	if (document.readyState === "complete") f();
	else listen(window, "load", f);
}
