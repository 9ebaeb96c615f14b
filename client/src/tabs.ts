import { guard } from "./guard.ts";

/** Tells this origin's other tabs, and hears what they tell. */
export function joinTabs<T>(name: string, hear: (message: T) => void): (message: T) => void {
	try {
		const channel = new BroadcastChannel(name);
		channel.onmessage = guard((event: MessageEvent<T>) => hear(event.data));
		return guard((message: T) => channel.postMessage(message));
	} catch {
		return () => {}; // Safari before 15.4: each tab renews for itself, to the same session
	}
}
