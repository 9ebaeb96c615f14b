import { context } from "./session.ts";

/**
 * Fills what a form passes on about the visit:
 *
 *	<input type="hidden" name="campaign" data-session-field="utm_campaign">
 *
 * Names are those of the current touch, with `original.` before them those of
 * the first; and session_id, user_id, segment_id, landing_page_id. What is not
 * known is left as it is.
 */
export function fillFields(within: ParentNode = document): void {
	const { original = {}, current = original } = context.attribution;
	const known: Record<string, unknown> = {
		...current,
		session_id: context.session.sessionId,
		user_id: context.userId,
		segment_id: context.segmentId,
		landing_page_id: context.landingPageId,
	};
	for (const [name, value] of Object.entries(original)) known["original." + name] = value;
	within.querySelectorAll<HTMLInputElement>("input[data-session-field]").forEach((input) => {
		const value = known[input.dataset["sessionField"]!];
		if (value) input.value = String(value);
	});
}
