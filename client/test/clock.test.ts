import assert from "node:assert/strict";
import test from "node:test";
import { newClock } from "../src/clock.ts";

function world() {
	const w = { mono: 1000, wall: 5_000_000 };
	return { w, clock: newClock(() => w.mono, () => w.wall) };
}

test("a clock begins as the device's own", () => {
	assert.equal(world().clock.now(), 5_000_000);
});

test("it follows the server's time, from the moment that it was told for", () => {
	const { w, clock } = world();
	clock.set(9_000_000, 300);
	assert.equal(clock.now(), 9_000_300);
	w.mono += 50;
	w.wall += 50;
	assert.equal(clock.now(), 9_000_350);
});

test("a device's clock that is set back, or a little forward, changes nothing", () => {
	const { w, clock } = world();
	clock.set(9_000_000);
	w.mono += 10_000;
	for (const wall of [4_000_000, 5_011_500]) {
		w.wall = wall;
		assert.equal(clock.now(), 9_010_000);
	}
});

test("time that the device slept has passed", () => {
	const { w, clock } = world();
	clock.set(9_000_000);
	w.mono += 1000;
	w.wall += 3600_000;
	assert.equal(clock.now(), 9_000_000 + 3600_000);
	clock.set(9_700_000); // and what the server says then counts
	assert.equal(clock.now(), 9_700_000);
});
