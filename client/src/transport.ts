import { debug } from "./guard.ts";
import { clock } from "./pageTime.ts";
import { context } from "./session.ts";
import { signalAfter } from "./signalAfter.ts";

/** What the API said. */
export interface Answer {
	/** 0 is no answer. */
	status: number;
	/** ms that the server wants us to wait. */
	wait: number;
	// JSON of a server that may be of another version: each use looks for itself.
	body?: any;
}

const enum Limits {
	/** Longest wait for an answer, in ms. */
	patience = 10_000,
	/** How far our clock may be from the server's, which answers tell to the second and a little late; in ms. */
	tolerance = 2000,
}

/**
 * One call of the API, which never rejects: a POST of what `content` gives, or a
 * GET. Cookies go with it on the page's own origin, as is fetch's default. The
 * body goes as text/plain, which needs no preflight. A page that is left gets no
 * second chance: what fetch doesn't take then is a beacon's.
 */
export async function call(route: string, content?: () => string, leaving?: boolean): Promise<Answer> {
	const url = `${context.apiBaseUrl}/client-api/v1/${route}`;
	const answer: Answer = { status: 0, wait: 0 };
	let body: string | undefined;
	const beacon = () => leaving && body && navigator.sendBeacon?.(url, body) && (answer.status = 200);
	try {
		body = content?.();
		// Without keepalive a fetch ends with the page.
		if (!("keepalive" in Request.prototype) && beacon()) return answer;
		const response = await fetch(url, { method: body && "POST", body, keepalive: true, signal: signalAfter(Limits.patience) });
		const { headers } = response;
		answer.wait = 1000 * +headers.get("Retry-After")! || 0;
		const time = Date.parse(headers.get("Date")!) + Limits.tolerance / 4;
		if (Math.abs(clock.now() - time) > Limits.tolerance) clock.set(time);
		answer.status = response.status;
		answer.body = await response.json();
	} catch {
		// 429 and 503 have empty bodies. A success without JSON is a login page's,
		// or a proxy's.
		if (answer.status < 400) {
			answer.status = 0;
			beacon();
		}
	}
	debug(route, answer);
	return answer;
}
