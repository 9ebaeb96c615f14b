/** An element in a few words: tag#id.class. */
export function describe(e: Element): string {
	return [e.localName + (e.id && "#" + e.id), ...e.classList].join(".");
}

/** The innermost element of an event's path that the selector matches, in open shadow trees too. */
export function pathMatch(event: Event, selector: string): HTMLElement | undefined {
	return event.composedPath().find((t) => t instanceof Element && t.matches(selector)) as HTMLElement | undefined;
}
