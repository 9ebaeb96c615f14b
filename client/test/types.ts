/*
 * What the package's types promise: `tsc --noEmit` fails where a line that is
 * marked to be an error is none.
 */
import { createElement, type ReactElement } from "react";
import { connect, decorateLinks, SessionManager, type Consent, type Context, type Session } from "../src/index.ts";
import { SessionProvider, useAttribution, useConsent, useSession, useTrackEvent, useVariant } from "../src/react.ts";

/** Compiles where A and B are the same type. */
function same<A, B>(..._: (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? [] : [never]): void {}

export function sessions(): void {
	same<ReturnType<typeof connect>, boolean>();
	same<ReturnType<typeof SessionManager.getContext>, Context | null>();
	same<ReturnType<typeof SessionManager.getCurrentSession>, Session | null>();
	same<ReturnType<typeof SessionManager.trackEvent>, void>();
	same<ReturnType<typeof SessionManager.onConsentChange>, Promise<boolean>>();

	SessionManager.trackEvent("trial", { value: 49, currency: "EUR", metadata: { plan: "pro" } });
	SessionManager.trackEvents([{ id: "a" }, { id: "b", type: "conversion" }]);
	decorateLinks("shop.example.com", "*.example.net");
	// @ts-expect-error a host is a text
	decorateLinks(["shop.example.com"]);
	// @ts-expect-error there may be none
	SessionManager.getCurrentSession().sessionId;
	// @ts-expect-error no such type of event
	SessionManager.trackEvent("trial", { type: "sale" });
	// @ts-expect-error a value is a number
	SessionManager.trackEvent("trial", { value: "49" });
	// @ts-expect-error an event has an id
	SessionManager.trackEvents([{ type: "conversion" }]);
	// @ts-expect-error no such purpose
	SessionManager.onConsentChange({ everything: true });
	// @ts-expect-error a choice is a yes or a no
	SessionManager.onConsentChange({ analytics: "yes" });
	// @ts-expect-error the context's name is a text
	connect(1);
}

export function Hooks(): ReactElement {
	same<ReturnType<typeof useSession>, Context | null>();
	same<ReturnType<typeof useVariant>, string | null>();
	const { consent, setConsent } = useConsent();
	same<typeof consent, Consent | null>();
	same<ReturnType<typeof setConsent>, Promise<boolean>>();
	const source: string | number | undefined = useAttribution()?.original?.["utm_source"];
	useTrackEvent()("seen", { metadata: { source } });
	// @ts-expect-error on a server, and before it comes, there is none
	useSession().session;
	// @ts-expect-error a test has a name
	useVariant();
	// @ts-expect-error no such option
	createElement(SessionProvider, { name: "x" });
	return createElement(SessionProvider, { variable: "__CONTEXT__" }, "page", null);
}
