import { newClock } from "./clock.ts";

/** The server's time in this page. */
export const clock = newClock(() => performance.now(), Date.now);
