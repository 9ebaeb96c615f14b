/**
 * JSON by our own hands: libraries put a toJSON on prototypes of arrays and
 * strings, which JSON.stringify calls.
 */
export function encode(value: unknown): string {
	if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
	if (Array.isArray(value)) return `[${value.map(encode).join()}]`;
	const members: string[] = [];
	for (const [key, member] of Object.entries(value)) {
		if (member !== undefined) members.push(`${JSON.stringify(key)}:${encode(member)}`);
	}
	return `{${members.join()}}`;
}
