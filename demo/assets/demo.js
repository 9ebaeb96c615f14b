// The demo page's only script. It reads the context that the server injected,
// reports a few events to the API, and shows both in the panel at the bottom.
//
// What it never does: make a user or session id, write a cookie or storage, ask
// the server whether a session is still valid. All page content is set as text.
(() => {
  "use strict";

  const injected = window.__FIREBUZZ_SESSION_CONTEXT__;
  const panel = document.getElementById("server");
  const chip = document.getElementById("context-status");
  const body = document.getElementById("server-body");

  // Read once, and worked on as a copy: a renewal changes the copy only.
  const ctx = injected?.session?.sessionId ? structuredClone(injected) : null;

  /* ---------- small helpers ---------- */

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children); // strings become text nodes, never markup
    return node;
  }

  // Only a secure context has randomUUID; a demo on http://192.168.… has not.
  function uuid() {
    if (crypto.randomUUID) return crypto.randomUUID();
    const b = crypto.getRandomValues(new Uint8Array(16));
    b[6] = (b[6] & 0x0f) | 0x40;
    b[8] = (b[8] & 0x3f) | 0x80;
    const hex = Array.from(b, (n) => n.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  /* ---------- the clock ---------- */

  // How far this device's clock is from the server's. A page that comes back from
  // history carries an old serverTime, so then the device's own clock has to do.
  const offset = (() => {
    const nav = performance.getEntriesByType("navigation")[0];
    if (!Number.isFinite(ctx?.serverTime) || !nav || nav.type === "back_forward") return 0;
    return ctx.serverTime - (performance.timeOrigin + nav.responseStart);
  })();
  const now = () => Date.now() + offset;
  const expired = () => now() >= ctx.session.expiresAt;

  /* ---------- talking to the API ---------- */

  // One POST, one row in the event log. Never throws.
  async function post(route, label, fields, attempt = 1) {
    const row = logRow(route, label, attempt);
    const reply = { status: 0, answer: null, ok: false };
    try {
      const response = await fetch(`${ctx.apiBaseUrl || ""}/client-api/v1/${route}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(fields),
        keepalive: true, // a form event survives leaving the page
        signal: AbortSignal.timeout(10_000),
      });
      reply.status = response.status;
      reply.answer = await response.json().catch(() => null); // 429 and 503 may be empty
      reply.ok = response.ok && reply.answer?.success === true;
    } catch (error) {
      reply.answer = { error: error.name === "TimeoutError" ? "no answer in 10 s" : error.message };
    }
    row.done(reply);
    return reply;
  }

  const isExpiry = (reply) => reply.status === 409 && reply.answer?.code === "session_expired";

  // Sends one beacon. The session part is added at the last moment, so that a second
  // try after a renewal carries the new session; `fields` (with its event_uuid) stays.
  async function send(route, label, fields) {
    const withSession = () => ({ ...fields(), session_id: ctx.session.sessionId, token: ctx.session.token });
    if (expired() && !(await renew())) return false;
    let reply = await post(route, label, withSession());
    if (isExpiry(reply) && (await renew())) reply = await post(route, label, withSession(), 2);
    return reply.ok;
  }

  // Asks for the successor of our session. The server makes its id and its expiry.
  async function renew() {
    const { ok, answer } = await post("events/session/renew", "renew", {
      token: ctx.session.token,
      old_session_id: ctx.session.sessionId,
      user_id: ctx.userId,
      campaign_id: ctx.campaignId,
      workspace_id: ctx.workspaceId,
      project_id: ctx.projectId,
    });
    const data = answer?.data;
    if (!ok || !data?.session_id) return false;
    const session = ctx.session;
    ctx.session = {
      ...session,
      sessionId: data.session_id,
      createdAt: data.created_at ?? session.createdAt,
      expiresAt: data.expires_at,
      token: data.token,
      renewalCount: data.renewal_count ?? session.renewalCount,
      originalSessionId: data.original_session_id ?? session.originalSessionId,
      originalTimestamp: data.original_timestamp ?? session.originalTimestamp,
    };
    if (data.segment_id !== undefined) ctx.segmentId = data.segment_id;
    showContext();
    return true;
  }

  // Beacons go one after another, in order.
  let queue = Promise.resolve();
  const enqueue = (job) => (queue = queue.then(job));

  function init() {
    return enqueue(() =>
      send("events/session/init", "init", () => ({
        user_id: ctx.userId,
        campaign_id: ctx.campaignId,
        workspace_id: ctx.workspaceId,
        project_id: ctx.projectId,
        landing_page_id: ctx.landingPageId || "",
        segment_id: ctx.segmentId,
        ab_test_id: ctx.abTestId,
        ab_test_variant_id: ctx.abTestVariantId,
        campaign_environment: ctx.campaignEnvironment,
      }))
    );
  }

  function track(eventId, eventType, { metadata = {}, ...extra } = {}) {
    const event = {
      event_id: eventId,
      event_type: eventType,
      event_value: 1,
      event_value_currency: "USD",
      event_value_type: "static",
      event_uuid: uuid(), // names this event, so that a retry is not counted twice
      page_url: location.href,
      referrer_url: document.referrer,
      viewport_width: window.innerWidth,
      viewport_height: window.innerHeight,
      metadata: JSON.stringify({ variant: document.body.dataset.variant, ...metadata }),
      ...extra,
    };
    return enqueue(() => send("events/track", eventId, () => event));
  }

  /* ---------- the event log ---------- */

  const log = el("ol", { class: "log", role: "log", "aria-label": "Event log", "data-testid": "event-log" });

  function logRow(route, label, attempt) {
    const status = el("span", { class: "pill", "data-testid": "event-status" }, "sending…");
    const answer = el("code", { class: "answer", "data-testid": "event-answer" });
    const row = el(
      "li",
      {
        "data-testid": "event-row", "data-route": route, "data-event": label,
        "data-attempt": attempt, "data-outcome": "sending",
      },
      el("time", {}, new Date().toLocaleTimeString()),
      el("span", { class: "what" }, el("strong", {}, attempt > 1 ? `${label}, again` : label), " ", el("span", { class: "route" }, `/${route}`)),
      status,
      answer
    );
    log.append(row);
    return {
      done(reply) {
        row.dataset.status = reply.status;
        row.dataset.outcome = reply.ok ? "ok" : isExpiry(reply) ? "expired" : "failed";
        if (reply.answer?.code) row.dataset.code = reply.answer.code;
        status.textContent = reply.status || "no answer";
        // The token proves the session; it need not be on every screenshot.
        const text = JSON.stringify(reply.answer, (key, value) => (key === "token" ? "…" : value));
        answer.textContent = text === "null" ? "empty answer" : text.slice(0, 600);
      },
    };
  }

  /* ---------- the panel ---------- */

  const facts = el("dl", { class: "facts" });
  const raw = el("pre", { tabindex: "0", "aria-label": "Raw context", "data-testid": "ctx-json" });
  const countdown = el("span", { class: "countdown", "data-testid": "ctx-countdown" });

  const time = (ms) => {
    const date = new Date(ms);
    if (!Number.isFinite(ms) || Number.isNaN(date.getTime())) return "–";
    return el("time", { datetime: date.toISOString() }, date.toLocaleString());
  };
  const code = (value) => (value === null || value === undefined || value === "" ? "–" : el("code", {}, String(value)));

  // An object of unknown keys as a list of "key value" tags.
  function tags(object, ifEmpty) {
    const entries = Object.entries(object || {});
    if (!entries.length) return ifEmpty;
    return el(
      "ul",
      { class: "tags" },
      ...entries.map(([key, value]) => {
        const shown =
          key === "timestamp" ? time(value)
          : typeof value === "boolean" ? (value ? "yes" : "no")
          : typeof value === "object" ? JSON.stringify(value)
          : String(value);
        return el("li", {}, el("b", {}, key), " ", shown);
      })
    );
  }

  function showContext() {
    const { session, gdprSettings: gdpr = {}, attribution = {} } = ctx;
    const tests = ctx.abTests?.length ? ctx.abTests
      : ctx.abTestId ? [{ testId: ctx.abTestId, variantId: ctx.abTestVariantId }] : [];
    const rows = [
      ["User id", "user-id", code(ctx.userId)],
      ["Session id", "session-id", code(session.sessionId)],
      ["Created", "created", time(session.createdAt)],
      ["Expires", "expires", time(session.expiresAt)],
      ["Time left", "time-left", countdown],
      ["Renewals", "renewals", String(session.renewalCount ?? 0)],
      ["Segment", "segment", ctx.segmentId ? code(ctx.segmentId) : "none matched"],
      ["A/B variant", "ab", tests.length
        ? tags(Object.fromEntries(tests.map((t) => [t.testId, t.variantId]))) : "not in a test"],
      ["Landing page", "landing-page", code(ctx.landingPageId)],
      ["Language, country", "locale", [gdpr.language, gdpr.countryCode].filter(Boolean).join(", ") || "–"],
      ["Campaign", "campaign", tags({
        workspace: ctx.workspaceId, project: ctx.projectId, campaign: ctx.campaignId,
        environment: ctx.campaignEnvironment,
      })],
      ["Consent", "consent", tags(ctx.consent, "–")],
      ["First touch", "attribution-original", tags(attribution.original, "organic: no campaign parameters")],
      ["This visit", "attribution-current", tags(attribution.current, "same as the first touch")],
    ];
    facts.replaceChildren(
      ...rows.map(([label, id, value]) =>
        el("div", { class: `fact fact-${id}` }, el("dt", {}, label), el("dd", { "data-testid": `ctx-${id}` }, value))
      )
    );
    raw.textContent = JSON.stringify(ctx, null, 2);
    panel.dataset.sessionId = session.sessionId;
    tick();
  }

  // Local arithmetic only; the server is not asked.
  function tick() {
    const left = Math.max(0, Math.ceil((ctx.session.expiresAt - now()) / 1000)) || 0;
    const two = (n) => String(n).padStart(2, "0");
    const clock = left >= 3600
      ? `${Math.floor(left / 3600)}:${two(Math.floor(left / 60) % 60)}:${two(left % 60)}`
      : `${two(Math.floor(left / 60))}:${two(left % 60)}`;
    const state = expired() ? "expired" : "live";
    panel.dataset.state = state;
    countdown.textContent = state === "live" ? clock : "expired; the next event renews it";
    chip.textContent = state === "live" ? `Session live · ${clock}` : "Session expired";
  }

  function showPanel() {
    const again = el("button", { type: "button", class: "button button-quiet", "data-testid": "send-test-event" },
      "Send a test event");
    again.addEventListener("click", () => track("demo-click", "engagement"));
    body.replaceChildren(
      facts,
      el("div", { class: "log-head" }, el("h3", {}, "Event log"), again),
      log,
      el("details", { class: "raw" }, el("summary", {}, "Raw context (JSON)"), raw)
    );
    showContext();
    setInterval(tick, 1000);
  }

  function showMissing() {
    panel.dataset.state = "missing";
    panel.open = true;
    chip.textContent = injected ? "Context without a session" : "No context injected";
    const check = (...parts) => el("li", {}, ...parts);
    body.replaceChildren(
      el(
        "div",
        { class: "missing", "data-testid": "context-missing" },
        el("p", {},
          injected
            ? "The page has a context, but it carries no session, so nothing is reported."
            : "The server injected no context into this page, so nothing is reported. The page itself works as usual."),
        el("p", {}, "What to check:"),
        el("ul", {},
          check("The page comes through Caddy, not from a file or straight from another web server."),
          check("The site has the ", el("code", {}, "session_context"), " directive, and ",
            el("code", {}, "inject"), " is not ", el("code", {}, "off"), "."),
          check("The browser’s console names no Content-Security-Policy that blocked the inline script."),
          check("The answer is HTML with a 2xx status and no ", el("code", {}, "Cache-Control: no-transform"), "."),
          check("With ", el("code", {}, "debug"), " in the directive, a response header says why a page was skipped; ",
            el("code", {}, "caddy session-context doctor"), " checks the rest."))
      )
    );
  }

  /* ---------- the sign-up form ---------- */

  const form = document.getElementById("signup-form");
  const thanks = document.getElementById("thanks");
  form.addEventListener("submit", async (event) => {
    event.preventDefault(); // the demo has no mailing list to post to
    const button = form.querySelector("button[type=submit]");
    button.disabled = true;
    document.getElementById("thanks-link").hidden = !ctx;
    if (ctx) {
      // Name and e-mail stay here. A slow API must not keep the visitor waiting.
      const sent = track("form-submission", "conversion", {
        form_id: "signup",
        metadata: { fieldCount: 3, companySize: form.elements.company_size.value },
      });
      await Promise.race([sent, new Promise((resolve) => setTimeout(resolve, 1500))]);
    }
    const name = form.elements.name.value.trim().slice(0, 60);
    document.getElementById("thanks-title").textContent = name ? `Thank you, ${name}.` : "Thank you.";
    form.hidden = true;
    thanks.hidden = false;
    thanks.focus();
  });

  /* ---------- start ---------- */

  // A link to the panel also opens it.
  const openIfNamed = () => { if (location.hash === "#server") panel.open = true; };
  window.addEventListener("hashchange", openIfNamed);
  document.querySelectorAll('a[href="#server"]').forEach((a) => a.addEventListener("click", () => { panel.open = true; }));
  openIfNamed();

  if (!ctx) {
    showMissing();
    return;
  }
  showPanel();

  async function start() {
    if (await init()) track("page-view", "engagement", { metadata: { title: document.title, path: location.pathname } });
  }
  // A page made ahead of its visit reports nothing until it is really shown.
  if (document.prerendering) document.addEventListener("prerenderingchange", start, { once: true });
  else start();
})();
