// A server that imports the package: nothing happens, and nothing throws.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import test from "node:test";
import { createElement, StrictMode, version } from "react";
import { renderToString } from "react-dom/server";
import * as client from "@firebuzz/session-client";
import { SessionProvider, useAttribution, useConsent, useSession, useTrackEvent, useVariant } from "@firebuzz/session-client/react";

const require = createRequire(import.meta.url);
const kinds = { import: client, require: require("@firebuzz/session-client") };

for (const [kind, { connect, decorateLinks, SessionManager, defaultVariable }] of Object.entries(kinds)) {
	test(`${kind}: a server has no session`, async () => {
		assert.equal(defaultVariable, "__FIREBUZZ_SESSION_CONTEXT__");
		assert.equal(connect(), false);
		assert.equal(decorateLinks("shop.example.com"), undefined);
		const given = {};
		for (const [name, method] of Object.entries(SessionManager)) given[name] = await method(name === "trackEvents" ? [] : {});
		assert.deepEqual(given, {
			performInitialization: undefined,
			getContext: null,
			getSessionFromContext: null,
			isSessionExpired: true,
			getCurrentSession: null,
			initializeAttribution: null,
			loadPersistedAttribution: null,
			getAttributionData: null,
			updateAfterRenewal: undefined,
			renewSessionWithPreservation: false,
			trackSession: false,
			trackEvent: undefined,
			trackEvents: undefined,
			shouldSetCookies: false,
			setSessionCookies: false,
			setAttributionCookie: false,
			getSessionCookie: null,
			getAttributionCookie: null,
			onConsentChange: false,
			clearAllCookies: false,
		});
		assert.equal("firebuzzSession" in globalThis, false);
	});
}

test(`React ${version} renders on a server, without a session`, async () => {
	let setConsent, trackEvent;
	function Page() {
		const state = useConsent();
		setConsent = state.setConsent;
		trackEvent = useTrackEvent();
		return createElement("p", null, JSON.stringify([useSession(), useAttribution(), useVariant("hero"), state.consent]));
	}
	const html = renderToString(createElement(StrictMode, null, createElement(SessionProvider, null, createElement(Page))));
	assert.equal(html, "<p>[null,null,null,null]</p>");
	trackEvent("trial");
	assert.equal(await setConsent({ analytics: true }), false);
});

test("React's part as CommonJS is the same", () => {
	const names = (m) => Object.keys(m).filter((name) => name !== "default" && name !== "module.exports" && name !== "__esModule").sort();
	const hooks = require("@firebuzz/session-client/react");
	assert.deepEqual(names(hooks), ["SessionProvider", "useAttribution", "useConsent", "useSession", "useTrackEvent", "useVariant"]);
	assert.equal(renderToString(createElement(hooks.SessionProvider, null, "page")), "page");
});
