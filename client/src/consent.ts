import { call } from "./transport.ts";
import { guard } from "./guard.ts";
import { updateGoogle } from "./googleConsent.ts";
import { encode } from "./json.ts";
import { clear } from "./queue.ts";
import { context, take } from "./session.ts";

const enum Limits {
	/** First wait between two tries to tell a decision, and the one that is too long, in ms; each is twice the last. */
	firstWait = 1000,
	lastWait = 64_000,
}

/** What a visitor may agree to. */
export interface Purposes {
	analytics: boolean;
	marketing: boolean;
	functional: boolean;
}

/** Where the visitor decided (`banner`, say), and which text he saw. */
export interface ConsentDetails {
	source?: string;
	policyVersion?: string;
}

let told: Promise<boolean> | undefined;
/** How often something was decided in this page. */
export let decisions = 0;
let reference = referencePurposes();

/** Whether anything may be kept in the browser. A signal weighs as much as it does for the server: less than a choice. */
export function mayStore(): boolean {
	const { analytics, required, source } = context.consent;
	return analytics && (source === "choice" || !(required && (navigator as { globalPrivacyControl?: boolean }).globalPrivacyControl));
}

/**
 * Tells what the visitor agreed to; consent tools call it with each change, and
 * may with each page: what is known already is not told again. The server sets
 * or removes cookies in its answer; the session stays the same. Resolves with
 * whether it has recorded that.
 */
export async function onConsentChange(preferences: Partial<Purposes>, details?: ConsentDetails): Promise<boolean> {
	const purposes = readPurposes(preferences);
	if (context.consent.source === "choice" && same(readPurposes(context.consent), purposes)) return true;
	decide(purposes, "choice");
	return (told = record(purposes, details, ++decisions, told));
}

/** Follows the reference consent manager, which records by itself. */
export function followReference(): void {
	const now = referencePurposes();
	if (now && !same(now, reference)) decide((reference = now), "frbzz_consent");
}

function decide(purposes: Purposes, source: string): void {
	take({ ...context, consent: { ...context.consent, ...purposes, source } });
	if (!purposes.analytics) clear();
	guard(updateGoogle)(purposes);
}

/** Tells a decision after those before it, until the server has it or there is a newer one. */
async function record(purposes: Purposes, details: ConsentDetails | undefined, decision: number, before: unknown): Promise<boolean> {
	await before;
	for (let wait = Limits.firstWait; decision === decisions && wait < Limits.lastWait; wait *= 2) {
		const { status } = await call("consent/record", () =>
			encode({ token: context.session.token, purposes, source: details?.source, policy_version: details?.policyVersion }),
		);
		if (status === 200) return true;
		// Not by the page's Promise, which it may have replaced.
		await { then: (go: () => void) => setTimeout(go, wait) };
	}
	return false;
}

/** What is not a yes is a no. */
function readPurposes(p?: Partial<Purposes>): Purposes {
	return { analytics: p?.analytics === true, marketing: p?.marketing === true, functional: p?.functional === true };
}

/** Both as readPurposes gives them. */
function same(a: object, b?: object): boolean {
	return String(Object.values(a)) === String(Object.values(b || {}));
}

/** What the reference manager's cookie says, once its visitor has decided. */
export function referencePurposes(): Purposes | undefined {
	try {
		const value = JSON.parse(decodeURIComponent(/(^| )frbzz_consent=([^;]*)/.exec(document.cookie)![2]!));
		if (value.hasUserInteracted) return readPurposes(value.preferences);
	} catch {
		// There is none, or nobody can read it.
	}
	return;
}
