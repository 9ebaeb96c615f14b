import { encode } from "./json.ts";
import { context, shared } from "./session.ts";

const enum Limits {
	/** Longest that unsent events are kept for the next page, in ms: the server dates events when they come. */
	keptFor = 3600_000,
}

/** Keeps these events, and no others, for the tab's next page. Storage may be full, forbidden or gone at any time. */
export function keep(events: string[]): void {
	try {
		sessionStorage.removeItem(shared());
		if (events.length) sessionStorage.setItem(shared(), encode({ user: context.userId, at: Date.now(), events }));
	} catch {
		// Full, or forbidden.
	}
}

/** Gives those of this user, and forgets them. */
export function takeKept(): string[] {
	let events: string[] = [];
	try {
		const kept = JSON.parse(sessionStorage.getItem(shared())!);
		if (kept.user === context.userId && Date.now() - kept.at < Limits.keptFor) {
			// One that is damaged would take its batch along.
			events = kept.events.filter((e: string) => JSON.parse(e));
		}
	} catch {
		// There are none, or they are damaged.
	}
	keep([]);
	return events;
}
