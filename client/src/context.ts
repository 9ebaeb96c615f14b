/** One A/B test's variant that the visitor has. */
export interface Assignment {
	testId: string;
	variantId: string;
}

/** The session as the server made it. Times are Unix ms by the server's clock. */
export interface Session {
	sessionId: string;
	createdAt: number;
	expiresAt: number;
	/** Proves the session to the API, with no cookie. */
	token: string;
	renewalCount: number;
	originalSessionId: string;
	originalTimestamp: number;
	abTest?: Assignment;
}

/** What the visitor agreed to, and what that rests on. */
export interface Consent {
	required: boolean;
	analytics: boolean;
	marketing: boolean;
	functional: boolean;
	/** `not_required`, `pending`, `choice`, `frbzz_consent`, `gpc` or `dnt`. */
	source: string;
}

/** What led to the visit: utm_*, ref, source, referrer, landingPage, click ids. */
export type Touch = Record<string, string | number | undefined>;

/** Both touches; `current` is there only where it differs. */
export interface Attribution {
	original?: Touch;
	current?: Touch;
	source?: string;
}

/** The document that the server puts into the page. */
export interface Context {
	userId: string;
	workspaceId: string;
	projectId: string;
	campaignId: string;
	landingPageId?: string;
	segmentId: string | null;
	abTestId: string | null;
	abTestVariantId: string | null;
	abTests: Assignment[];
	session: Session;
	serverTime: number;
	consent: Consent;
	attribution: Attribution;
	campaignEnvironment: string;
	apiBaseUrl: string;
}

/** The global that holds the context where nothing else is configured. */
export const defaultVariable = "__FIREBUZZ_SESSION_CONTEXT__";

/** A copy of the context, or undefined if there is none that the API would take. */
export function readContext(c?: Context): Context | undefined {
	const s = c?.session;
	if (!s || !(s.expiresAt > 0)) return;
	const needed = [c.userId, c.workspaceId, c.projectId, c.campaignId, c.apiBaseUrl, s.sessionId, s.token];
	if (needed.every(Boolean)) return { ...c, session: { ...s } };
	return;
}

/** The context that the page has right now, in the global of that name. */
export function pageContext(variable: string): Context | undefined {
	return readContext((window as unknown as Record<string, Context | undefined>)[variable]);
}
