// The browser runtime's calls of the API, as they go: for this page's log only.
// A page that is left sends beacons too; nobody is there to see them.

import { el } from "./dom.js";

export const log = el("ol", { class: "log", role: "log", tabindex: "0", "aria-label": "Calls of the API", "data-testid": "event-log" });

const api = "/client-api/v1/";
const fetchOfBrowser = window.fetch;

export const fetchUnseen = (...args) => fetchOfBrowser.call(window, ...args);

window.fetch = async (url, options) => {
  const route = String(url).split(api)[1];
  if (!route || options?.method !== "POST") return fetchUnseen(url, options);
  const rows = described(route, options.body).map((what) => logRow(route, what));
  try {
    const response = await fetchUnseen(url, options);
    const answer = await response.clone().json().catch(() => null); // 429 and 503 may be empty
    rows.forEach((row) => done(row, response.status, answer));
    return response;
  } catch (error) {
    rows.forEach((row) => done(row, 0, { error: error.message }));
    throw error;
  }
};

// What a call tells: each event of a batch, or the route's own name.
function described(route, body) {
  try {
    const { events, purposes } = JSON.parse(body);
    if (events) return events.map((e) => ({ name: e.event_id, more: e.event_type + (e.event_value === 1 ? "" : ` · ${e.event_value} ${e.event_value_currency || "USD"}`) }));
    if (purposes) return [{ name: "consent", more: Object.entries(purposes).map(([k, v]) => `${k} ${v ? "yes" : "no"}`).join(", ") }];
  } catch {
    // Not JSON: the name says enough.
  }
  return [{ name: route.split("/").pop(), more: "" }];
}

function logRow(route, { name, more }) {
  const row = el("li", { "data-testid": "event-row", "data-route": route, "data-event": name, "data-outcome": "sending" },
    el("time", {}, new Date().toLocaleTimeString()),
    el("span", { class: "what" }, el("strong", {}, name), " ", el("span", { class: "route" }, more)),
    el("span", { class: "pill", "data-testid": "event-status" }, "sending…"));
  log.prepend(row);
  while (log.children.length > 100) log.lastChild.remove();
  return row;
}

function done(row, status, answer) {
  const ok = status === 200 && answer?.success === true;
  row.dataset.status = status;
  row.dataset.outcome = ok ? "ok" : "failed";
  row.lastChild.textContent = ok ? "stored" : `${status || "no answer"} ${answer?.code || ""}`;
}
