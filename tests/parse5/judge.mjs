// Judges whether a page is the original plus one script, by the tree that the
// HTML standard makes of each.
//
// It reads cases from its input, one JSON object a line, and answers each with
// a line, until the input ends. original and injected are base64 of UTF-8,
// script is the text that the one script has to have, scripting says whether
// noscript is raw text. The answer is a JSON string: the first difference in
// words, empty where there is none.
import { createInterface } from "node:readline";
import { html, parse } from "parse5";

const marker = "data-session-context";

// nothing stands for a node that one of two trees lacks.
const nothing = { nodeName: "nothing" };

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
	process.stdout.write(JSON.stringify(judge(JSON.parse(line))) + "\n");
}

function judge({ original, injected, script, scripting }) {
	const want = tree(original, scripting);
	const have = tree(injected, scripting);
	const wrong = takeScript(have, script);
	return wrong || difference(want, have);
}

function tree(base64, scriptingEnabled) {
	// A byte order mark goes here, as it does in browsers.
	const text = new TextDecoder("utf-8").decode(Buffer.from(base64, "base64"));
	return parse(text, { scriptingEnabled });
}

// takeScript removes the script, which has to be first in head, and says what
// is wrong with it.
function takeScript(document, script) {
	const root = document.childNodes.find((node) => node.tagName === "html");
	const head = root.childNodes.find((node) => node.tagName === "head");
	const first = head.childNodes[0];
	if (first?.tagName !== "script" || first.namespaceURI !== html.NS.HTML) {
		return `head begins with ${show(first)}, not with the script`;
	}
	if (!first.attrs.some(({ name }) => name === marker)) {
		return `head begins with a script without ${marker}`;
	}
	if (first.childNodes.length !== 1 || first.childNodes[0].value !== script) {
		return `the script says ${show(first.childNodes[0])}, want ${JSON.stringify(script)}`;
	}
	head.childNodes.shift();
	return "";
}

// difference compares two trees in the order of the document. Trees can be
// deeper than the stack.
function difference(want, have) {
	const left = [{ want, have, path: "" }];
	while (left.length > 0) {
		const { want, have, path } = left.pop();
		const at = path || "the document";
		const [a, b] = [own(want), own(have)];
		if (a !== b) {
			return `${at} is ${b}, want ${a}`;
		}
		const count = Math.max(want.childNodes?.length ?? 0, have.childNodes?.length ?? 0);
		for (let i = count - 1; i >= 0; i--) {
			const [a, b] = [want.childNodes?.[i] ?? nothing, have.childNodes?.[i] ?? nothing];
			left.push({ want: a, have: b, path: `${path}/${a.nodeName}[${i}]` });
		}
		if (want.content) {
			left.push({ want: want.content, have: have.content, path: `${path}/content` });
		}
	}
	return "";
}

// own is all of a node but its children.
function own({ nodeName, mode, name, publicId, systemId, namespaceURI, attrs, data, value, content }) {
	return JSON.stringify({ nodeName, mode, name, publicId, systemId, namespaceURI, attrs, data, value, content: !!content });
}

function show(node) {
	return node ? own(node) : "nothing";
}
