import assert from "node:assert/strict";
import test from "node:test";

// A browser's globals, as far as the package asks for them before there is a context.
Object.assign(globalThis, { document: {}, window: globalThis, addEventListener() {} });
const { connect, SessionManager } = await import("../src/pageSession.ts");

const properties: Record<string, PropertyDescriptor> = {
	"an element's": { value: { id: "firebuzzSession" } },
	"a string": { value: "a session" },
	"a getter that throws": {
		get() {
			throw new Error("mine");
		},
	},
	"nothing, for ever": { value: undefined, writable: false },
	"a queue that is full": { value: Array(200).fill(() => {}) },
};

for (const [name, property] of Object.entries(properties))
	test(`where the page's global is ${name} there is no session, and nothing throws or waits`, async () => {
		Object.defineProperty(globalThis, "firebuzzSession", { configurable: true, ...property });
		assert.equal(connect(), false);
		for (const [method, call] of Object.entries(SessionManager) as [string, (...args: unknown[]) => unknown][]) {
			const got = await call({});
			assert.equal(got ?? false, method === "isSessionExpired", method);
		}
	});
