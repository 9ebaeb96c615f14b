/** A signal that is given after so many ms; AbortSignal.timeout is younger than Safari 15. What has ended by then does not notice. */
export function signalAfter(ms: number): AbortSignal {
	const abort = new AbortController();
	setTimeout(() => abort.abort(), ms);
	return abort.signal;
}
