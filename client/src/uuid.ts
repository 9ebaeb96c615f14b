/**
 * Names one event by 128 random bits, so that a retry is not counted twice. The
 * only ids that this client makes: users' and sessions' are the server's.
 */
export function uuid(): string {
	// Pages over plain HTTP have no randomUUID.
	return crypto.getRandomValues(new Uint32Array(4)).join("-");
}
