// A page in React that counts what it renders, and lets its test press.
import { StrictMode, useEffect, useRef } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { SessionManager } from "@firebuzz/session-client";
import { SessionProvider, useAttribution, useConsent, useSession, useTrackEvent, useVariant } from "@firebuzz/session-client/react";

const test = window as any;
test.renders = {};
test.manager = SessionManager;
const rendered = (what: string) => (test.renders[what] = (test.renders[what] ?? 0) + 1);

function Session() {
	rendered("session");
	return <p id="session">{useSession()?.session.sessionId ?? "none"}</p>;
}

function Attribution() {
	rendered("attribution");
	return <p id="source">{String(useAttribution()?.original?.["utm_source"] ?? "none")}</p>;
}

function Variant() {
	rendered("variant");
	return <p id="variant">{useVariant("hero") ?? "none"}</p>;
}

function Consent() {
	rendered("consent");
	const { consent, setConsent } = useConsent();
	test.setConsent = setConsent;
	return <p id="consent">{consent ? `${consent.source} ${consent.analytics} ${consent.marketing}` : "none"}</p>;
}

function Events() {
	const trackEvent = useTrackEvent();
	const once = useRef(false);
	// Before the provider has started the session: children's effects run first.
	useEffect(() => {
		if (!once.current) trackEvent("mounted", { type: "conversion" });
		once.current = true;
	}, [trackEvent]);
	return <button id="buy" onClick={() => trackEvent("bought", { value: 20, currency: "EUR" })}>buy</button>;
}

const app = (
	<StrictMode>
		<SessionProvider><Session /><Attribution /><Variant /><Consent /><Events /></SessionProvider>
		<SessionProvider><Session /></SessionProvider>
	</StrictMode>
);
const root = document.getElementById("root")!;
// What a server would have rendered, if there is something.
if (root.hasChildNodes()) hydrateRoot(root, app, { onRecoverableError: (error) => { throw error } });
else createRoot(root).render(app);
