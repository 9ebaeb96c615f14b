import { guard } from "./guard.ts";

/** Runs f once the tab is in front: one that is opened in the background may never be. */
export function whenVisible(f: () => void): void {
	if (document.hidden) document.addEventListener("visibilitychange", guard(() => whenVisible(f)), { once: true });
	else f();
}
