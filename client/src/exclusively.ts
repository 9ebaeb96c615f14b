/**
 * Runs the job while no other tab of this origin runs one of that name, but
 * waits for them no longer than ms, and not at all where there are no locks.
 */
export async function exclusively<T>(name: string, ms: number, job: () => Promise<T>): Promise<T> {
	let running: Promise<T> | undefined;
	const once = () => (running ||= job());
	const abort = new AbortController();
	const timer = setTimeout(() => abort.abort(), ms);
	try {
		await navigator.locks.request(name, { signal: abort.signal }, once);
	} catch {
		// No locks, not allowed here, or somebody holds it for too long. Once the
		// job runs, a signal changes nothing.
	}
	clearTimeout(timer);
	return once();
}
