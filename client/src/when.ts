import { guard } from "./guard.ts";

/** Runs f once it is no longer too early: at once, or after an event of that type. */
export function when(target: EventTarget, type: string, early: () => unknown, f: () => void): void {
	if (early()) target.addEventListener(type, guard(() => when(target, type, early, f)), { once: true });
	else f();
}

/** Runs f once the page has loaded. */
export function whenLoaded(f: () => void): void {
	when(window, "load", () => document.readyState !== "complete", f);
}
