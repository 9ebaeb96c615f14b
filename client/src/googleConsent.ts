import type { Purposes } from "./consent.ts";

/** Tells Google's tags, if there are any (Consent Mode v2). The default, before any tag, is the server's script's. */
export function updateGoogle({ analytics, marketing, functional }: Purposes): void {
	const gtag = (window as { gtag?: (...args: unknown[]) => void }).gtag;
	if (!gtag) return;
	const state = (granted: boolean) => (granted ? "granted" : "denied");
	gtag("consent", "update", {
		ad_storage: state(marketing),
		ad_user_data: state(marketing),
		ad_personalization: state(marketing),
		analytics_storage: state(analytics),
		functionality_storage: state(functional),
		personalization_storage: state(functional),
	});
}
