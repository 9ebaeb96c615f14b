import { listen } from "./guard.ts";

/** Runs f once somebody looks at the page that was prerendered, or at once. */
export function whenActivated(f: () => void): void {
	if ((document as { prerendering?: boolean }).prerendering) listen(document, "prerenderingchange", f);
	else f();
}
