import { describe } from "./describe.ts";
import { fillFields } from "./formFields.ts";
import { guard, listen } from "./guard.ts";
import { track } from "./track.ts";

/** Submissions of forms, whose marked fields are filled before they go. */
export function trackForms(): void {
	watch(document);
	// What goes on in a shadow tree comes out of it, but submit doesn't.
	listen(window, "focusin click", (e: Event) => e.composedPath().forEach((t) => t instanceof ShadowRoot && watch(t)), true);
}

/** A listener that a root has already is not added again. */
function watch(root: EventTarget): void {
	root.addEventListener("submit", submitted as unknown as EventListener, true);
}

const submitted = guard(({ target: form }: { target: HTMLFormElement }) => {
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
});
