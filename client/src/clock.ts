/** The server's time, as far as this page knows it. */
export interface Clock {
	/** Unix ms. */
	now(): number;
	/** Takes a time that the server told `ago` ms ago. */
	set(serverTime: number, ago?: number): void;
}

const enum Limits {
	// A wall clock may be set a little now and then; a device that slept is behind
	// by more.
	sleep = 2000,
}

/**
 * A clock that begins as the device's own. It is monotonic, so setting the
 * device's clock back changes nothing; what the monotonic clock missed, because
 * some systems stop it while they sleep, is taken from the wall clock. One that
 * is set forward looks like sleep: the session is renewed too early then, which
 * gives the same session, and the answer tells the time.
 */
export function newClock(monotonic: () => number, wall: () => number): Clock {
	let at = wall();
	let wallAt = at;
	let monotonicAt = monotonic();
	return {
		now() {
			const passed = monotonic() - monotonicAt;
			const byWall = wall() - wallAt;
			return at + (byWall - passed > Limits.sleep ? byWall : passed);
		},
		set(serverTime, ago = 0) {
			at = serverTime;
			wallAt = wall() - ago;
			monotonicAt = monotonic() - ago;
		},
	};
}
