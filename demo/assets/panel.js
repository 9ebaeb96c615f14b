// The panel at the bottom: what the server decided, what the page reported, and
// what was stored. It only reads; the session is the runtime's.

import { log, fetchUnseen } from "./calls.js";
import { code, el, tags, time } from "./dom.js";
import { count, list, watchRows } from "./rows.js";

const panel = document.getElementById("server");
const chip = document.getElementById("context-status");
const body = document.getElementById("server-body");

const facts = el("dl", { class: "facts" });
const raw = el("pre", { tabindex: "0", "aria-label": "Context as JSON", "data-testid": "ctx-json" });
const countdown = el("span", { class: "countdown", "data-testid": "ctx-countdown" });
const cookies = el("p", { role: "status", "data-testid": "cookies", "data-state": "unknown" }, "Asking…");
const boxes = ["analytics", "marketing", "functional"].map((name) =>
  el("label", {}, el("input", { type: "checkbox", name, "data-testid": `consent-${name}` }), " ", name));

let ids; // of this visitor, as rows name them

export function showPanel(session) {
  ids = new Set([session.getContext().userId]);
  const step = (text, testId, act) => {
    const button = el("button", { type: "button", class: "button button-quiet", "data-testid": testId }, text);
    if (act) button.addEventListener("click", act);
    return button;
  };
  const test = step("Report an engagement", "send-test-event");
  test.dataset.sessionEvent = "demo-click";
  const sale = step("Report a sale of 49 EUR", "send-sale");
  Object.assign(sale.dataset, { sessionEvent: "sale", sessionEventValue: "49", sessionEventCurrency: "EUR" });
  let views = 0;
  const navigate = step("Go to another view", "navigate", () => history.pushState(null, "", `?view=${++views}#server`));
  // No form: its submission would be reported as a visitor's.
  const consent = el("div", { class: "choices", role: "group", "aria-label": "Consent" }, ...boxes,
    step("Save", "consent-save", () => {
      const purposes = Object.fromEntries(boxes.map((label) => [label.firstChild.name, label.firstChild.checked]));
      session.onConsentChange(purposes, { source: "panel" }).then(() => showCookies(session));
    }));

  body.replaceChildren(
    facts,
    section("Consent", "The choice is the visitor’s. The server sets or removes its cookies in the answer; scripts can’t see them.", consent, cookies),
    section("Reported", "Buttons name their events in the page’s HTML; the runtime reports page views, scrolling, links and forms by itself.",
      el("p", { class: "steps" }, test, sale, navigate), log),
    section("Stored", "Rows lie on disk before the API answers, and go to the sink within seconds. These are yours, newest first.", count, list),
    el("details", { class: "raw" }, el("summary", {}, "The context as the page has it (JSON)"), raw));
  const update = () => {
    showContext(session);
    tick(session);
  };
  addEventListener("firebuzz-session-change", update);
  update();
  showCookies(session);
  watchRows(ids);
  setInterval(() => tick(session), 1000);
}

function section(title, text, ...children) {
  return el("section", { class: "part" }, el("h3", {}, title), el("p", { class: "fine" }, text), ...children);
}

function showContext(manager) {
  const context = manager.getContext();
  const { attribution = {}, consent, gdprSettings: gdpr = {}, session } = context;
  ids.add(session.sessionId);
  const rows = [
    ["User", "user-id", code(context.userId), "Made by the server, never by the browser."],
    ["Session", "session-id", code(session.sessionId), "Proves itself; a made-up one is refused."],
    ["Began", "created", time(session.createdAt), "By the server’s clock."],
    ["Ends", "expires", time(session.expiresAt), "The page checks it by itself and asks nobody."],
    ["Time left", "time-left", countdown, "Then the server makes a successor for the same visitor."],
    ["Renewals", "renewals", String(session.renewalCount ?? 0), "User, segment, variant and first touch stay."],
    ["Segment", "segment", context.segmentId ? code(context.segmentId) : "none matched", "The first in the Caddyfile that matches."],
    ["A/B variant", "ab", context.abTests?.length ? tags(Object.fromEntries(context.abTests.map((t) => [t.testId, t.variantId]))) : "not in a test", "Decided before the page was made: nothing flickers."],
    ["Landing page", "landing-page", code(context.landingPageId), "The variant’s, else the segment’s, else the campaign’s."],
    ["Language, country", "locale", [gdpr.language, gdpr.countryCode].filter(Boolean).join(", ") || "–", "Without a geo source, as here, the country given is US."],
    ["Campaign", "campaign", tags({ workspace: context.workspaceId, project: context.projectId, campaign: context.campaignId, "campaign environment": context.campaignEnvironment }), ""],
    ["Consent", "consent", tags(consent, "–"), "What the server knows, and what that rests on."],
    ["First touch", "attribution-original", tags(attribution.original, "organic: no campaign parameters"), "Fixed with the first visit."],
    ["This visit", "attribution-current", tags(attribution.current, "same as the first touch"), "What led here now."],
  ];
  facts.replaceChildren(...rows.map(([label, id, value, why]) =>
    el("div", { class: `fact fact-${id}` }, el("dt", {}, label), el("dd", {}, el("div", { "data-testid": `ctx-${id}` }, value), el("small", {}, why)))));
  // The token proves the session; it need not be on every screenshot.
  raw.textContent = JSON.stringify(context, (key, value) => (key === "token" ? "…" : value), 2);
  for (const label of boxes) label.firstChild.checked = consent[label.firstChild.name];
  panel.dataset.sessionId = session.sessionId;
}

// Scripts can't read the server's cookies; but the server can be asked whom it
// knows by them alone.
export async function showCookies(manager) {
  const response = await fetchUnseen("/client-api/v1/session/context", { cache: "no-store" }).catch(() => null);
  const known = response?.ok && (await response.json().catch(() => null))?.userId === manager.getContext().userId;
  cookies.dataset.state = known ? "there" : "none";
  cookies.textContent = known
    ? "The browser has cookies: by them alone, the server knows who you are."
    : "The browser has no cookie that names you: by cookies alone, the server does not know you.";
}

// Local arithmetic only, until the session has ended.
function tick(manager) {
  const { expiresAt } = manager.getCurrentSession();
  const ended = manager.isSessionExpired();
  const left = Math.max(0, Math.ceil((expiresAt - Date.now()) / 1000));
  const clock = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  panel.dataset.state = ended ? "expired" : "live";
  countdown.textContent = ended ? "over; asking for the next" : clock;
  chip.textContent = ended ? "Session over" : `Session live · ${clock}`;
  // The runtime renews before it sends the next event; this page waits for none.
  if (ended && !document.hidden) manager.renewSessionWithPreservation();
}

export function showMissing(context) {
  panel.dataset.state = "missing";
  panel.open = true;
  chip.textContent = context ? "No runtime" : "No context injected";
  const check = (...parts) => el("li", {}, ...parts);
  body.replaceChildren(
    el("div", { class: "missing", "data-testid": "context-missing" },
      el("p", {}, context ? "The page has its context, but no script that works with it." : "The server injected no context into this page. The page itself works as usual."),
      el("p", {}, "What to check:"),
      el("ul", {},
        check("The page comes through Caddy, not from a file or straight from another web server."),
        check("The site has the ", el("code", {}, "session_context"), " directive with ", el("code", {}, "client on"), ", and ", el("code", {}, "inject"), " is not ", el("code", {}, "off"), "."),
        check("The browser’s console names no Content-Security-Policy that blocked a script."),
        check("The answer is HTML with a 2xx status and no ", el("code", {}, "Cache-Control: no-transform"), "."),
        check("With ", el("code", {}, "debug"), " in the directive, a response header says why a page was skipped."))));
}
