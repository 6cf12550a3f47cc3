// The page's elements, made without HTML strings: text is only ever text.
export const $ = (id) => document.getElementById(id);

// el("p", { class: "muted", title: "…" }, "text", child, …); properties that are functions are listeners.
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) {
    if (typeof v === "function") e.addEventListener(k, v);
    else if (v === true) e.setAttribute(k, "");
    else if (v !== false && v !== null && v !== undefined) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

const HUES = 8;
export function avatar(e, name) {
  let sum = 0;
  for (const c of name) sum = (sum * 31 + c.codePointAt(0)) >>> 0;
  e.dataset.hue = sum % HUES;
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0] || "?"];
  e.textContent = letters.map((w) => [...w][0].toUpperCase()).join("");
  return e;
}

const MEANING = {
  sending: "sending",
  sent: "sent",
  delivered: "delivered",
  read: "read",
  rejected: "not sent",
  expired: "expired before it was delivered",
};
export function ticks(state) {
  const e = el("span", { class: "ticks", "data-state": state, role: "img" });
  e.setAttribute("aria-label", MEANING[state] || state);
  e.title = MEANING[state] || state;
  return e;
}
