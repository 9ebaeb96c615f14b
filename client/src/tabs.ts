import { guard } from "./guard.ts";

/** Tells this origin's other tabs, and hears what they tell; before Safari 15.4 each tab is alone, and renews for itself to the same session. */
export function joinTabs<T>(name: string, hear: (message: T) => void): (message: T) => void {
	let channel: BroadcastChannel;
	guard(() => {
		channel = new BroadcastChannel(name);
		channel.onmessage = guard((event: MessageEvent<T>) => hear(event.data));
	})();
	return guard((message) => channel.postMessage(message));
}
