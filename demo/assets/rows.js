// The rows of this visit, as the server stored them. They lie in files that the
// demo's Caddyfile serves to this machine; no real site does that.

import { el } from "./dom.js";
import { fetchUnseen } from "./calls.js";

const datasources = ["session_v1", "events_v1", "consents_v1"];
const tail = 200_000; // bytes of each file that are looked at
const every = 1500; // ms

// What is said of a row before it is opened.
const headlines = {
  session_v1: (r) => (r.is_renewal ? `renewal ${r.renewal_count}` : "session"),
  events_v1: (r) => `${r.event_id} · ${r.event_type}${r.event_value === 1 ? "" : ` · ${r.event_value} ${r.event_value_currency}`}`,
  consents_v1: (r) => `${r.status} · ${["analytics", "marketing", "functional"].filter((name) => r[name]).join(", ") || "nothing"}`,
};

export const list = el("ol", { class: "log rows", tabindex: "0", "aria-label": "Rows stored", "data-testid": "rows" });
export const count = el("span", { class: "pill", "data-testid": "rows-count" }, "none yet");

const known = new Set();

// Shows rows of these ids as they arrive; ids grows as sessions are renewed.
export function watchRows(ids) {
  const look = async () => {
    if (!document.hidden) await Promise.all(datasources.map((name) => read(name, ids).catch(() => {})));
    setTimeout(look, every);
  };
  look();
}

async function read(datasource, ids) {
  const response = await fetchUnseen(`/demo/rows/${datasource}.ndjson`, { headers: { Range: `bytes=-${tail}` }, cache: "no-store" });
  if (response.status !== 206 && response.status !== 200) return; // 204: there is none yet
  for (const line of (await response.text()).split("\n")) {
    if (![...ids].some((id) => line.includes(id))) continue;
    let row;
    try {
      row = JSON.parse(line);
    } catch {
      continue; // the first may be cut, the last half written
    }
    const key = `${datasource} ${row.row_id}`;
    if (known.has(key)) continue;
    known.add(key);
    show(datasource, row);
  }
}

function show(datasource, row) {
  list.prepend(el("li", { "data-testid": "row", "data-datasource": datasource, "data-event": row.event_id || "" },
    el("details", {},
      el("summary", {}, el("code", {}, datasource), " ", el("span", { class: "what" }, headlines[datasource](row))),
      el("pre", {}, JSON.stringify(row, null, 2)))));
  while (list.children.length > 200) list.lastChild.remove();
  count.textContent = `${known.size} row${known.size === 1 ? "" : "s"}`;
}
