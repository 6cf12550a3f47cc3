// The journey of one message, as a parcel's tracking page shows it.
import { $, el } from "./dom.js";
import { preciseTimeOf, dayOf, uuid7 } from "./util.js";
import { glimpse } from "./list.js";

const TOLD = {
  created: () => "Written, and kept on the sender's device",
  accepted: () => "Accepted by the server",
  published: () => "Handed to the bus",
  queued: (p) => `In the mailbox of ${whose(p)}`,
  notified: (p) => `Announced to ${whose(p)}`,
  received: (p) => `Received by ${whose(p)}`,
  deleted: () => "Content deleted from the server",
  read: (p) => `Read by ${p.user_id || "the recipient"}`,
  rejected: () => "Refused",
  retried: () => "Tried again",
  parked: () => "Set aside after the last attempt",
  expired: () => "Expired before it was delivered",
};
const AHEAD = ["accepted", "published", "queued", "notified", "received", "deleted", "read"];
const BAD = new Set(["rejected", "parked", "expired"]);

function whose(p) {
  if (!p.user_id) return "the recipient";
  return p.device_id ? `${p.user_id} (device ${p.device_id.slice(-6)})` : p.user_id;
}

export class Track {
  #id = null;
  #timer = null;
  #listeners = new AbortController();

  constructor(store, api) {
    Object.assign(this, { store, api });
    const signal = this.#listeners.signal;
    $("track-close").addEventListener("click", () => $("track").close(), { signal });
    $("track").addEventListener("click", (e) => e.target === $("track") && $("track").close(), { signal });
    $("track").addEventListener("close", () => this.#hide(), { signal });
    $("track-discard").addEventListener("click", () => this.#discard(), { signal });
    $("track-again").addEventListener("click", () => this.#again(), { signal });
    store.addEventListener("change", () => this.#id && this.#draw(), { signal });
  }
  stop() {
    if ($("track").open) $("track").close();
    this.#hide();
    this.#listeners.abort();
  }

  show(id) {
    this.#id = id;
    $("track-points").replaceChildren();
    $("track").showModal();
    this.#timer = setInterval(() => this.#draw(), 2000);
    this.#draw();
  }
  #hide() {
    clearInterval(this.#timer);
    this.#id = null;
  }

  async #draw() {
    const id = this.#id;
    const m = await this.store.message(id);
    if (!m) return;
    let points = [], note = "";
    try {
      ({ points } = await this.api.journey(id));
    } catch (e) {
      if (e.status === 0) note = "The server cannot be reached: this is what this device knows.";
    }
    if (this.#id !== id) return;
    if (!points.length) points = this.#local(m);
    const signature = JSON.stringify([m.state, points, note]);
    if (this.signature === signature && $("track-points").childElementCount) return;
    this.signature = signature;
    $("track-text").textContent = note || glimpse(m);
    $("track-id").textContent = m.seq ? `number ${m.seq} in its conversation · ${id}` : id;
    $("track-actions").hidden = m.state !== "rejected";
    this.#show(points, m);
  }

  #local(m) {
    if (m.by_user_id !== this.store.me) return m.accepted_at ? [{ point: "accepted", at: m.accepted_at }] : [];
    const points = [{ point: "created", at: m.created_at, user_id: m.by_user_id }];
    if (m.accepted_at) points.push({ point: "accepted", at: m.accepted_at });
    if (m.state === "rejected") points.push({ point: "rejected", detail: m.reason });
    return points;
  }

  #show(points, m) {
    const start = points.length ? Date.parse(points[0].at) : 0;
    const rows = points.map((p) => this.#row(p, start));
    if (!points.some((p) => BAD.has(p.point))) {
      const furthest = Math.max(...points.map((p) => AHEAD.indexOf(p.point)));
      for (const point of AHEAD.slice(furthest + 1)) rows.push(el("li", { class: "ahead" }, el("span", {}, TOLD[point]({}))));
    }
    $("track-points").replaceChildren(...rows);
  }

  #row(p, start) {
    const at = p.at ? new Date(p.at) : null;
    const since = at && start ? at.getTime() - start : 0;
    return el(
      "li",
      { class: BAD.has(p.point) ? "bad" : "passed", "data-point": p.point },
      el("span", {}, (TOLD[p.point] || (() => p.point))(p)),
      p.detail ? el("span", { class: "detail muted" }, p.detail) : null,
      at
        ? el(
            "time",
            { class: "muted", datetime: at.toISOString() },
            `${dayOf(at)}, ${preciseTimeOf(at)}`,
            since > 0 ? ` · ${since < 1000 ? `${since} ms` : `${(since / 1000).toFixed(1)} s`} on the road` : "",
          )
        : null,
    );
  }

  async #discard() {
    const m = await this.store.message(this.#id);
    $("track").close();
    if (m?.state === "rejected") await this.store.discard(m);
  }
  // What was refused is written anew, under a new id.
  async #again() {
    const m = await this.store.message(this.#id);
    $("track").close();
    if (m?.state !== "rejected") return;
    const now = Date.now();
    const { conversation_id, kind, text, media } = m;
    await this.store.addOutgoing({ message_id: uuid7(now), conversation_id, kind, text, media, created_at: now });
    await this.store.discard(m);
  }
}
