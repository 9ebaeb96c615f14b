import { connect, SessionManager, type Context } from "@firebuzz/session-client";
import { SessionProvider, useSession } from "@firebuzz/session-client/react";

export const started: boolean = connect();
export const context: Context | null = SessionManager.getContext();
export { SessionProvider };
export const hook: () => Context | null = useSession;

// The types are there, and not any.
// @ts-expect-error
SessionManager.trackEvent(1);
