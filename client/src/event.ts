import { encode } from "./json.ts";
import { uuid } from "./uuid.ts";

/** What the page says of an event; what is left out has the default. Names with an underscore are the API's own. */
export interface EventOptions {
	/** Default: `engagement`; `conversion` where a value is given. */
	type?: "conversion" | "engagement" | "system";
	/** Default: 1. */
	value?: number;
	/** ISO 4217. Default: USD. */
	currency?: string;
	/** Whatever goes with it, 4 KiB of JSON at most. */
	metadata?: Record<string, unknown>;
	/** Default: `static`; `dynamic` where a value is given. */
	event_value_type?: "static" | "dynamic";
	form_id?: string;
	clicked_element?: string;
	clicked_url?: string;
}

/** Fields of an event as the API takes them. */
export type Fields = Record<string, string | number | undefined>;

const enum Limits {
	/** Longest metadata, in characters of JSON; the API cuts longer ones to what nobody can read. */
	longestMetadata = 4096,
}

/** The event of that name with its fields, as JSON. */
export function encodeEvent(id: string, type: string, fields: Fields, metadata: Record<string, unknown>): string {
	let text: string | undefined;
	try {
		text = encode(metadata);
	} catch {
		// It refers to itself, or a getter throws: the event counts without.
	}
	return encode({
		event_uuid: uuid(),
		event_id: id,
		event_type: type,
		page_url: location.href,
		referrer_url: document.referrer || undefined,
		viewport_width: innerWidth,
		viewport_height: innerHeight,
		metadata: text && text.length <= Limits.longestMetadata ? text : undefined,
		...fields,
		event_value: fields["event_value"] ?? 1, // the reference client's default
	});
}
