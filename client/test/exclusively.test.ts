import assert from "node:assert/strict";
import test, { mock } from "node:test";
import { exclusively } from "../src/exclusively.ts";

type Request = (name: string, options: { signal: AbortSignal }, run: () => Promise<unknown>) => Promise<unknown>;

function withLocks(request?: Request) {
	Object.defineProperty(globalThis, "navigator", { configurable: true, value: request ? { locks: { request } } : {} });
}

const job = () => mock.fn(async () => "done");

test("the job runs once, inside the lock", async () => {
	let inside = false;
	withLocks(async (_name, _options, run) => {
		inside = true;
		await run();
		inside = false;
	});
	const f = mock.fn(async () => inside);
	assert.equal(await exclusively("x", 1000, f), true);
	assert.equal(f.mock.callCount(), 1);
});

test("without locks it runs all the same", async () => {
	withLocks();
	const f = job();
	assert.equal(await exclusively("x", 1000, f), "done");
	assert.equal(f.mock.callCount(), 1);
});

test("where locks are refused, after the job as well, it runs once", async () => {
	for (const before of [true, false]) {
		withLocks(async (_name, _options, run) => {
			if (!before) await run();
			throw new Error("not allowed");
		});
		const f = job();
		assert.equal(await exclusively("x", 1000, f), "done");
		assert.equal(f.mock.callCount(), 1);
	}
});

test("a lock that somebody holds is waited for so long and no longer", async () => {
	mock.timers.enable({ apis: ["setTimeout"] });
	withLocks((_name, { signal }) => new Promise((_, refuse) => signal.addEventListener("abort", () => refuse(new Error("aborted")))));
	const f = job();
	const ran = exclusively("x", 1000, f);
	mock.timers.tick(999);
	await Promise.resolve();
	assert.equal(f.mock.callCount(), 0);
	mock.timers.tick(1);
	assert.equal(await ran, "done");
	mock.timers.reset();
});
