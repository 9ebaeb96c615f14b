import { encodeEvent, type EventOptions, type Fields } from "./event.ts";
import { guard } from "./guard.ts";
import { enqueue } from "./queue.ts";

const enum Limits {
	/** Longest that an event waits for others, in ms. */
	gather = 2000,
}

let viewedAt = 0;

/** Begins a view of the page. */
export function beginView(): void {
	viewedAt = performance.now();
}

/** Seconds since the view began. */
export function timeOnPage(): number {
	return Math.round((performance.now() - viewedAt) / 1000);
}

/** Takes an event, to be sent within so many ms. */
export function track(id: string, type: string, fields: Fields, metadata?: Record<string, unknown>, within: number = Limits.gather): void {
	enqueue(encodeEvent(id, type, { time_on_page: timeOnPage(), ...fields }, { timestamp: Date.now(), ...metadata }), within);
}

/** Reports an event of the page's own. */
export const trackEvent = guard((id: string, { type, value, currency, metadata, ...fields }: EventOptions = {}) => {
	const valued = value !== undefined;
	const kind = type || (valued ? "conversion" : "engagement");
	track(
		id,
		kind,
		{ event_value: value, event_value_currency: currency, event_value_type: valued ? "dynamic" : undefined, ...fields },
		metadata,
		kind === "conversion" ? 0 : Limits.gather,
	);
});
