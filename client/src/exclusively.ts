import { signalAfter } from "./signalAfter.ts";

/**
 * Runs the job while no other tab of this origin runs one of that name, but
 * waits for them no longer than ms, and not at all where there are no locks.
 */
export async function exclusively<T>(name: string, ms: number, job: () => Promise<T>): Promise<T> {
	let running: Promise<T> | undefined;
	const once = () => (running ||= job());
	try {
		await navigator.locks.request(name, { signal: signalAfter(ms) }, once);
	} catch {
		// No locks, not allowed here, or somebody holds it for too long. Once the
		// job runs, a signal changes nothing.
	}
	return once();
}
