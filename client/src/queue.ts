import { call } from "./transport.ts";
import { mayStore } from "./consent.ts";
import { debug } from "./guard.ts";
import { encode } from "./json.ts";
import { keep, takeKept } from "./kept.ts";
import { living, proof, renew } from "./session.ts";
import type { Answer } from "./transport.ts";

const enum Limits {
	/** Most events that wait; the oldest go. */
	longest = 200,
	/**
	 * Most characters of a batch's events. Each may take three bytes: two batches
	 * fit into the 64 KiB that the Fetch standard lets a page's keepalive requests
	 * and beacons have in flight together.
	 */
	batchSize = 10_000,
	/** A batch goes when it has so many. */
	enough = 10,
	/** Longest wait between two tries, in ms. */
	slowest = 300_000,
}

// Events are encoded once, and a batch stays as it is: a retry sends the same
// bytes, with the same event_uuid.
let waiting: string[] = [];
let failed: string[][] = [];
let pause = 0; // before the next try, in ms, where the last one failed
let notBefore = 0;
let busy = false;

/** Takes up what an earlier page could not send. */
export function restore(): void {
	const events = takeKept();
	if (mayStore() && events[0]) {
		waiting.unshift(...events);
		wake(0);
	}
}

/** Adds an encoded event, to be sent within so many ms. */
export function enqueue(event: string, within: number): void {
	if (event.length > Limits.batchSize) return debug(event);
	waiting.push(event);
	if (waiting.length > Limits.longest) waiting.shift();
	wake(waiting.length < Limits.enough ? within : 0);
}

/** Sends all that waits at once, and waits for nothing: the page may be gone in a moment. */
export function leave(): void {
	const list = failed;
	for (let batch: string[]; (batch = next()).length; ) send(batch, true).then((answer) => passing(answer) && fail(batch, answer, list)).catch(debug);
	save();
}

/** Tries at once what failed: the browser is online again. */
export function retry(): void {
	notBefore = 0;
	wake(0);
}

/** Forgets all that waits, here and in the browser's storage. */
export function clear(): void {
	waiting = [];
	failed = [];
	keep([]);
}

/** What wakes it up too soon, or for nothing, does no harm. */
function wake(ms: number): void {
	setTimeout(flush, ms);
}

async function flush(): Promise<void> {
	// What failed waits for its own time, and all else behind it.
	if (busy || Date.now() < notBefore) return;
	busy = true;
	try {
		for (let batch; (batch = next()).length && (await deliver(batch)); );
		save();
	} catch (error) {
		debug(error);
	}
	busy = false;
}

function next(): string[] {
	if (failed.length) return failed.shift()!;
	let size = 0;
	let n = 0;
	while (n < waiting.length && (size += waiting[n]!.length) <= Limits.batchSize) n++;
	return waiting.splice(0, n);
}

/** Sends a batch. False: nobody took it, and it waits for another time. */
async function deliver(batch: string[]): Promise<boolean> {
	const list = failed;
	let answer: Answer = { status: 0, wait: 0 };
	// What was cleared while the session was renewed is not sent.
	if ((await living()) && list === failed) answer = await send(batch);
	if (answer.status === 409 && (await renew())) answer = await send(batch);
	if (passing(answer)) {
		fail(batch, answer, list);
		return false;
	}
	pause = 0;
	return true;
}

function send(events: string[], leaving?: boolean): Promise<Answer> {
	// The events are JSON already.
	return call("events/batch-track", () => `${encode(proof(leaving)).slice(0, -1)},"events":[${events.join()}]}`, leaving);
}

/** Puts back a batch that nobody took, unless all was cleared meanwhile. */
function fail(batch: string[], { wait }: Answer, list: string[][]): void {
	if (list !== failed) return;
	failed.unshift(batch);
	pause = Math.min(2 * pause || 1000, Limits.slowest);
	wait = Math.max(wait, pause);
	notBefore = Date.now() + wait;
	wake(wait);
	save();
}

function save(): void {
	if (mayStore()) keep(pause ? failed.flat().concat(waiting).slice(-Limits.longest) : []);
}

/** Whether it may be otherwise later: no answer, not renewed, too many, out of order. */
function passing({ status }: Answer): boolean {
	return !status || status === 409 || status === 429 || status >= 500;
}
