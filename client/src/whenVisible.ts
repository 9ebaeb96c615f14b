import { guard } from "./guard.ts";

/** Runs f once the tab is in front: one that is opened in the background may never be. */
export function whenVisible(f: () => void): void {
	const look: () => void = guard(() => {
		if (document.hidden) return document.addEventListener("visibilitychange", look, { once: true });
		f();
	});
	look();
}
