// The demo page's own script. The server adds two before it: the context, and
// the runtime that reports what happens; see docs/client.md. This one shows what
// they do, asks for consent, and answers the sign-up form. It makes no id, and
// keeps nothing in the browser.

import { el } from "./dom.js";
import { showCookies, showMissing, showPanel } from "./panel.js";

/* ---------- the panel ---------- */

// A link to the panel also opens it, where it was closed.
const panel = document.getElementById("server");
const openIfNamed = () => { if (location.hash === "#server") panel.open = true; };
addEventListener("hashchange", openIfNamed);
document.querySelectorAll('a[href="#server"]').forEach((a) => a.addEventListener("click", () => { panel.open = true; }));
openIfNamed();

let session;

/* ---------- consent ---------- */

// What any consent tool does: it tells the decision.
const banner = document.getElementById("consent-banner");

function showBanner() {
  const look = () => { banner.hidden = session.getContext().consent.source !== "pending"; };
  addEventListener("firebuzz-session-change", look);
  look();
}

banner.addEventListener("click", ({ target }) => {
  const choice = target.closest("[data-consent]")?.dataset.consent;
  if (!choice) return;
  const yes = choice === "all";
  session.onConsentChange({ analytics: yes, marketing: yes, functional: yes }, { source: "banner" }).then(() => showCookies(session));
});

/* ---------- the sign-up form ---------- */

const form = document.getElementById("signup-form");
const thanks = document.getElementById("thanks");
form.addEventListener("submit", (event) => {
  event.preventDefault(); // the demo has no mailing list to post to
  // The runtime has filled these, and reported the form; name and e-mail stay here.
  document.getElementById("passed").replaceChildren(
    ...[...form.querySelectorAll("[data-session-field]")].flatMap((input) => [el("dt", {}, input.name), el("dd", {}, input.value || "–")]));
  const name = form.elements.name.value.trim().slice(0, 60);
  document.getElementById("thanks-title").textContent = name ? `Thank you, ${name}.` : "Thank you.";
  form.hidden = true;
  thanks.hidden = false;
  thanks.focus();
});

/* ---------- the session ---------- */

// Works before the runtime is there, and after. Then it is called at once: so it
// stands behind all that it uses.
(window.firebuzzSession ||= []).push((manager) => {
  session = manager;
  showPanel(manager);
  showBanner();
});
addEventListener("load", () => setTimeout(() => session || showMissing(window.__FIREBUZZ_SESSION_CONTEXT__), 3000));
