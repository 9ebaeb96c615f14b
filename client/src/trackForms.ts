import { describe } from "./describe.ts";
import { fillFields } from "./formFields.ts";
import { listen } from "./guard.ts";
import { track } from "./track.ts";

const roots = new WeakSet<EventTarget>();

/** Submissions of forms, whose marked fields are filled before they go. */
export function trackForms(): void {
	watch(document);
	// What goes on in a shadow tree comes out of it, but submit doesn't.
	listen(window, "focusin click", (e: Event) => e.composedPath().forEach((t) => t instanceof ShadowRoot && watch(t)), true);
}

function watch(root: EventTarget): void {
	if (!roots.has(root)) listen(root, "submit", submitted, true);
	roots.add(root);
}

function submitted({ target }: Event): void {
	const form = target as HTMLFormElement;
	fillFields(form);
	// form.method may be a field of that name.
	const attribute = (name: string) => form.getAttribute(name) || "";
	track(
		"form-submission",
		"conversion",
		{ form_id: attribute("id") || attribute("name") || describe(form) },
		{ fieldCount: form.querySelectorAll("input,select,textarea").length, method: attribute("method") || "get", action: attribute("action") },
		0,
	);
}
