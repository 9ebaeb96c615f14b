import { guard, listen } from "./guard.ts";

/** The page's URL as far as it names a page. */
const place = () => location.href.split("#")[0];

/** Calls f when a script has changed the page's URL, as single-page apps do; a change of the fragment alone is none. */
export function onRouteChange(f: () => void): void {
	let at = place();
	const look = guard(() => {
		if (place() === at) return;
		at = place();
		f();
	});
	const navigation = (window as { navigation?: EventTarget }).navigation;
	listen(navigation || window, "currententrychange popstate", look);
	if (navigation) return;
	for (const name of ["pushState", "replaceState"] as const) {
		const original = history[name];
		history[name] = function (...args) {
			original.apply(this, args);
			look();
		};
	}
}
