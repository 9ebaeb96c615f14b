export { connect, SessionManager } from "./pageSession.ts";
export { decorateLinks } from "./decorateLinks.ts";
export type { Cookie } from "./manager.ts";
export { defaultVariable } from "./context.ts";
export type { Assignment, Attribution, Consent, Context, Session, Touch } from "./context.ts";
export type { EventOptions } from "./event.ts";
export type { ConsentDetails, Purposes } from "./consent.ts";
