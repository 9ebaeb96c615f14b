import { createContext, createElement, useContext, useEffect, useSyncExternalStore, type ReactElement, type ReactNode } from "react";
import { pageContext } from "./context.ts";
import { connect, defaultVariable, SessionManager, type Attribution, type Consent, type ConsentDetails, type Context, type EventOptions, type Purposes } from "./index.ts";

/*
 * The page's session in React. Hooks give null on a server, while a page
 * hydrates, and as long as the page has no context; then what the page has,
 * before the session's script is there too. They render anew when their own
 * value is another, and never for the clock.
 */

const Variable = createContext(defaultVariable);

export interface SessionProviderProps {
	/** The global that holds the context. Default: __FIREBUZZ_SESSION_CONTEXT__. */
	variable?: string;
	children?: ReactNode;
}

/**
 * Starts the page's session once it is mounted, unless it has started: by the
 * server's script, by another provider, or by the first of two mounts.
 */
export function SessionProvider({ variable = defaultVariable, children }: SessionProviderProps): ReactElement {
	useEffect(() => void connect(variable), [variable]);
	return createElement(Variable.Provider, { value: variable }, children);
}

/** The page's context, with the session and the consent that there are now. */
export function useSession(): Context | null {
	return useOf((context) => context);
}

/** What led the visitor here. */
export function useAttribution(): Attribution | null {
	return useOf((context) => context.attribution);
}

/** The variant that the visitor has in an A/B test; null, if none. */
export function useVariant(testId: string): string | null {
	return useOf((context) => context.abTests?.find((test) => test.testId === testId)?.variantId ?? null);
}

/** What the visitor agreed to, and how to tell another decision. */
export interface ConsentState {
	consent: Consent | null;
	/** Resolves with whether the server has recorded it. The same function each time. */
	setConsent(preferences: Partial<Purposes>, details?: ConsentDetails): Promise<boolean>;
}

/** What the visitor agreed to, whoever told it, and how to tell. */
export function useConsent(): ConsentState {
	return { consent: useOf((context) => context.consent), setConsent: SessionManager.onConsentChange };
}

/** Reports an event. The same function each time; where the session is yet to start, events wait for it. */
export function useTrackEvent(): (id: string, options?: EventOptions) => void {
	return SessionManager.trackEvent;
}

/** A part of the context. The runtime never changes a context that it has given away, so parts are compared by identity. */
function useOf<T>(part: (context: Context) => T): T | null {
	const variable = useContext(Variable);
	const get = () => {
		const context = SessionManager.getContext() || injected(variable);
		return context && part(context);
	};
	return useSyncExternalStore(subscribe, get, () => null);
}

function subscribe(changed: () => void): () => void {
	const events = ["firebuzz-session-change", "firebuzz-session-ready"];
	events.forEach((type) => addEventListener(type, changed));
	return () => events.forEach((type) => removeEventListener(type, changed));
}

let last: { value?: unknown; context?: Context } = {};

/** The context that the server put into the page: one object, as long as it is the same. */
function injected(variable: string): Context | null {
	const value = (window as unknown as Record<string, unknown>)[variable];
	if (value !== last.value) last = { value, context: pageContext(variable) };
	return last.context || null;
}
