// Elements, made without markup: strings become text.

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const code = (value) => (value === null || value === undefined || value === "" ? "–" : el("code", {}, String(value)));

export function time(ms) {
  const date = new Date(ms);
  if (!Number.isFinite(ms) || Number.isNaN(date.getTime())) return "–";
  return el("time", { datetime: date.toISOString() }, date.toLocaleString());
}

// An object of unknown keys as a list of "key value" tags.
export function tags(object, ifEmpty) {
  const entries = Object.entries(object || {}).filter(([, value]) => value !== undefined);
  if (!entries.length) return ifEmpty;
  const shown = ([key, value]) =>
    key === "timestamp" ? time(value)
    : typeof value === "boolean" ? (value ? "yes" : "no")
    : typeof value === "object" ? JSON.stringify(value)
    : String(value);
  return el("ul", { class: "tags" }, ...entries.map((entry) => el("li", {}, el("b", {}, entry[0]), " ", shown(entry))));
}
