/** Says what went wrong, if the page asks for it by `window.__FIREBUZZ_DEBUG__`; nobody else has to read it. */
export function debug(...what: unknown[]): void {
	if ((window as unknown as Record<string, unknown>)["__FIREBUZZ_DEBUG__"]) console.debug("[session]", ...what);
}

/** A function that never throws: whatever goes wrong in ours is no matter of the page's. */
export function guard<A extends unknown[]>(f: (...args: A) => unknown): (...args: A) => void {
	return (...args) => {
		try {
			f(...args);
		} catch (error) {
			debug(error);
		}
	};
}

/** Listens with a function that never throws. Ours prevent nothing. */
export function listen(target: EventTarget, types: string, f: (event: never) => unknown, capture?: boolean): void {
	for (const type of types.split(" ")) target.addEventListener(type, guard(f as (event: Event) => unknown), capture);
}
