import assert from "node:assert/strict";
import test from "node:test";
import { encode } from "../src/json.ts";

test("values come out as they went in", () => {
	const value = { a: 1.5, b: 'x"\u2028<é', c: [1, null, true, { d: [] }], e: {}, f: null };
	assert.deepEqual(JSON.parse(encode(value)), value);
});

test("what is undefined is left out; in an array it is null", () => {
	assert.equal(encode({ a: undefined, b: [undefined, NaN] }), '{"b":[null,null]}');
});

test("what libraries put on prototypes is not asked", () => {
	const prototypes = [Array.prototype, String.prototype, Object.prototype] as unknown as { toJSON?: unknown }[];
	for (const p of prototypes) p.toJSON = () => "broken";
	try {
		assert.equal(encode({ a: ["x", { b: 1 }] }), '{"a":["x",{"b":1}]}');
	} finally {
		for (const p of prototypes) delete p.toJSON;
	}
});
