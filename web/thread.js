// The open conversation: its messages out of the store, kept in step by message id, and the composer.
import { $, el, avatar, ticks } from "./dom.js";
import { uuid7, timeOf, dayOf, sizeOf } from "./util.js";
import { nameOf } from "./list.js";

const PAGE = 60;
const TEXT_MAX = 64 * 1024; // bytes, as the server counts them
const SHOWN = /^image\/(png|jpeg|gif|webp|avif)$/; // everything else is offered as a file
const PLAYED = /^(video|audio)\//;

export class Thread {
  #conversation = null;
  #limit = PAGE;
  #nodes = new Map(); // message_id -> { node, mark, url }
  #drawing = false;
  #again = false;
  #progress = new Map();
  #seen = new IntersectionObserver((found) => this.#inView(found), { root: $("log") });
  #listeners = new AbortController();

  constructor(store, api, outbox, { track, close }) {
    Object.assign(this, { store, api, outbox, track });
    const on = (target, type, f) => target.addEventListener(type, f, { signal: this.#listeners.signal });
    on(store, "change", (e) => {
      if (!e.detail.conversation_id || e.detail.conversation_id === this.id) this.draw();
    });
    on(document, "visibilitychange", () => this.#lookAgain());
    on($("composer"), "submit", (e) => this.#submit(e));
    on($("text"), "keydown", (e) => {
      if (e.key === "Enter" && !e.shiftKey && !e.isComposing) this.#submit(e);
    });
    on($("text"), "input", () => this.#grow());
    on($("text"), "paste", (e) => e.clipboardData.files.length && (e.preventDefault(), this.#files(e.clipboardData.files)));
    on($("attach"), "click", () => $("file").click());
    on($("file"), "change", (e) => {
      this.#files(e.target.files);
      e.target.value = "";
    });
    on($("earlier"), "click", () => {
      this.#limit += PAGE;
      this.draw();
    });
    on($("jump"), "click", () => this.#toEnd());
    on($("log"), "scroll", () => this.#atEnd() && ($("jump").hidden = true));
    on($("back"), "click", close);
    this.#dropping(on);
    this.presence = setInterval(() => this.#presence(), 15000);
  }

  get id() {
    return this.#conversation?.conversation_id;
  }

  stop() {
    clearInterval(this.presence);
    this.#listeners.abort();
    this.leave();
  }

  leave() {
    this.#conversation = null;
    for (const id of [...this.#nodes.keys()]) this.#drop(id);
    $("open").hidden = true;
    $("nothing").hidden = false;
  }

  useOutbox(outbox) {
    this.outbox = outbox;
    outbox.addEventListener("progress", (e) => this.progress(e.detail), { signal: this.#listeners.signal });
  }

  async open(id) {
    if (this.id !== id) this.leave();
    this.#conversation = await this.store.conversation(id);
    if (!this.#conversation) return;
    this.#limit = PAGE;
    const name = nameOf(this.#conversation, this.store.me);
    avatar($("thread-avatar"), name);
    $("thread-title").textContent = name;
    this.#status("");
    $("composer-error").textContent = "";
    $("open").hidden = false;
    $("nothing").hidden = true;
    await this.draw();
    this.#toEnd();
    $("text").focus({ preventScroll: true });
    this.#presence();
  }

  // ---- who is there ----

  #status(text, online = false) {
    $("thread-status").textContent = text;
    $("thread-status").dataset.state = online ? "online" : "";
  }

  async #presence() {
    const c = this.#conversation;
    if (!c || document.visibilityState !== "visible") return;
    const others = c.members.filter((m) => m !== this.store.me);
    try {
      const users = await Promise.all(others.slice(0, 20).map((id) => this.api.user(id)));
      if (c !== this.#conversation) return;
      const here = users.filter((u) => u.online);
      if (others.length === 1) this.#status(here.length ? "online" : "offline", here.length > 0);
      else this.#status(`${c.members.length} people, ${here.length} of the others online`, here.length > 0);
    } catch {
      if (c === this.#conversation) this.#status(others.length > 1 ? `${c.members.length} people` : "");
    }
  }

  // ---- showing ----

  async draw() {
    if (this.#drawing) {
      this.#again = true;
      return;
    }
    this.#drawing = true;
    do {
      this.#again = false;
      if (this.id) await this.#redraw(this.id);
    } while (this.#again);
    this.#drawing = false;
  }

  async #redraw(id) {
    const found = await this.store.last(id, this.#limit + 1);
    if (this.id !== id) return;
    $("earlier").hidden = found.length <= this.#limit;
    const list = found.slice(-this.#limit);
    const atEnd = this.#atEnd();
    const before = $("log").scrollHeight - $("log").scrollTop;
    const earlier = list.length && !this.#nodes.has(list[0].message_id) && this.#nodes.size;
    const known = new Set(this.#nodes.keys());

    const keep = new Set(list.map((m) => m.message_id));
    for (const old of known) if (!keep.has(old)) this.#drop(old);
    this.#place(list);

    const fresh = list.filter((m) => !known.has(m.message_id));
    const last = list[list.length - 1];
    if (atEnd || (last && last.state === "sending" && !known.has(last.message_id))) this.#toEnd();
    else if (earlier) $("log").scrollTop = $("log").scrollHeight - before; // earlier ones came in above
    else if (fresh.some((m) => m.unread)) $("jump").hidden = false;
  }

  // Puts the nodes in order, touching only what is not in its place already.
  #place(list) {
    const box = $("messages");
    let at = box.firstElementChild;
    const next = (node) => {
      if (at === node) at = at.nextElementSibling;
      else box.insertBefore(node, at);
    };
    let lastDay = "", lastBy = "";
    for (const d of box.querySelectorAll(".day")) {
      if (d === at) at = at.nextElementSibling;
      d.remove();
    }
    for (const m of list) {
      const today = dayOf(m.accepted_at || m.created_at);
      if (today !== lastDay) {
        next(el("h3", { class: "day" }, today));
        lastDay = today;
        lastBy = "";
      }
      next(this.#nodeOf(m, m.by_user_id !== lastBy));
      lastBy = m.by_user_id;
    }
  }

  #nodeOf(m, first) {
    const mark = [m.state, m.unread, m.order, m.broken, first].join();
    const known = this.#nodes.get(m.message_id);
    if (known && known.mark === mark) return known.node;
    const url = known?.url || (m.media?.blob ? URL.createObjectURL(m.media.blob) : null);
    const node = known?.node || el("article", { class: "message", "data-id": m.message_id });
    this.#nodes.set(m.message_id, { node, mark, url });
    this.#fill(node, m, first, url);
    if (m.unread) this.#seen.observe(node);
    else this.#seen.unobserve(node);
    return node;
  }

  #fill(node, m, first, url) {
    const mine = m.by_user_id === this.store.me;
    const several = this.#conversation.members.length > 2;
    node.classList.toggle("mine", mine);
    node.classList.toggle("first", first);
    node.dataset.state = m.state;
    node.replaceChildren(
      el("span", { class: "sr" }, mine ? "You: " : `${m.by_user_id}: `),
      ...(first && several && !mine ? [el("strong", { class: "by", "aria-hidden": "true" }, m.by_user_id)] : []),
      this.#body(m, url),
      el(
        "button",
        { class: "meta", type: "button", title: "Track this message", click: () => this.track(m.message_id) },
        el("time", { datetime: new Date(m.accepted_at || m.created_at).toISOString() }, timeOf(m.accepted_at || m.created_at)),
        mine && m.state !== "here" ? ticks(m.state) : null,
        el("span", { class: "sr" }, "Track this message"),
      ),
    );
    if (m.state === "rejected") node.append(el("p", { class: "error" }, `Not sent: ${m.reason}`));
    if (m.state === "expired") node.append(el("p", { class: "error" }, "Nobody fetched it in time."));
    node.onclick = (e) => e.target.closest("a, button, video, audio") || getSelection().toString() || this.track(m.message_id);
    if (this.#progress.has(m.message_id) && m.state === "sending") this.#bar(node, this.#progress.get(m.message_id));
  }

  #body(m, url) {
    if (m.state === "pending") {
      return el("p", { class: "text muted" }, m.broken ? "The download was broken off; fetching it again…" : "fetching…");
    }
    if (m.state === "gone") return el("p", { class: "text muted" }, "Not available on this device any more.");
    if (m.kind !== "media") return el("p", { class: "text", dir: "auto" }, m.text);
    const { media_type: type = "", filename, bytes } = m.media;
    const name = filename || "file";
    if (SHOWN.test(type)) {
      const image = el("img", { src: url, alt: filename ? `Picture: ${filename}` : "Picture", load: () => this.#settleScroll() });
      return el("a", { class: "picture", href: url, download: name, title: `Save ${name}` }, image);
    }
    if (PLAYED.test(type)) {
      return el(type.startsWith("video/") ? "video" : "audio", { class: "played", src: url, controls: true, preload: "metadata" });
    }
    return el(
      "a",
      { class: "file", href: url, download: name },
      el("span", { class: "file-icon", "aria-hidden": "true" }, (name.split(".").pop() || "").slice(0, 4).toUpperCase()),
      el("span", { class: "file-name" }, name),
      el("span", { class: "muted" }, sizeOf(bytes ?? m.media.blob.size)),
    );
  }

  progress({ message_id, part }) {
    this.#progress.set(message_id, part);
    const known = this.#nodes.get(message_id);
    if (known) this.#bar(known.node, part);
    if (part >= 1) this.#progress.delete(message_id);
  }
  #bar(node, part) {
    let bar = node.querySelector("progress");
    if (!bar) node.insertBefore((bar = el("progress", { max: 1, "aria-label": "Uploading" })), node.querySelector(".meta"));
    bar.value = part;
  }

  #drop(id) {
    const { node, url } = this.#nodes.get(id);
    this.#seen.unobserve(node);
    node.remove();
    if (url) URL.revokeObjectURL(url);
    this.#nodes.delete(id);
  }

  // ---- read: shown on a visible page ----

  #inView(found) {
    if (document.visibilityState !== "visible") return;
    for (const f of found) {
      if (f.isIntersecting) this.store.markRead(f.target.dataset.id);
    }
  }
  #lookAgain() {
    if (document.visibilityState !== "visible") return;
    this.#presence();
    for (const { node } of this.#nodes.values()) {
      this.#seen.unobserve(node); // observing anew reports anew
      this.#seen.observe(node);
    }
  }

  #atEnd() {
    const log = $("log");
    return log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  }
  #toEnd() {
    this.stick = true;
    $("log").scrollTop = $("log").scrollHeight;
    $("jump").hidden = true;
  }
  #settleScroll() {
    const log = $("log");
    if (log.scrollHeight - log.scrollTop - log.clientHeight < 500) this.#toEnd();
  }

  // ---- writing ----

  #grow() {
    const t = $("text");
    t.style.height = "auto";
    t.style.height = `${t.scrollHeight + t.offsetHeight - t.clientHeight}px`;
    t.style.overflowY = t.scrollHeight > 180 ? "auto" : "hidden";
  }

  async #submit(e) {
    e.preventDefault();
    const t = $("text");
    const text = t.value;
    if (!text.trim() || !this.id) return;
    if (new TextEncoder().encode(text).length > TEXT_MAX) return this.#complain("This is longer than one message may be (64 KiB).");
    t.value = "";
    this.#grow();
    if (!(await this.#add({ kind: "text", text }))) t.value = text;
  }

  async #files(files) {
    for (const file of files) {
      const media = { blob: file, media_type: file.type || "application/octet-stream", filename: file.name, bytes: file.size };
      await this.#add({ kind: "media", media });
    }
  }

  async #add(fields) {
    const now = Date.now();
    try {
      await this.store.addOutgoing({ message_id: uuid7(now), conversation_id: this.id, created_at: now, ...fields });
      this.#complain("");
      return true;
    } catch {
      this.#complain("This device has no room left to keep the message until it is sent.");
      return false;
    }
  }
  #complain(text) {
    $("composer-error").textContent = text;
  }

  #dropping(on) {
    const zone = $("thread");
    const hasFiles = (e) => this.id && e.dataTransfer.types.includes("Files");
    on(zone, "dragover", (e) => {
      if (!hasFiles(e)) return;
      e.preventDefault();
      $("drop").hidden = false;
    });
    on(zone, "dragleave", (e) => zone.contains(e.relatedTarget) || ($("drop").hidden = true));
    on(zone, "drop", (e) => {
      $("drop").hidden = true;
      if (!hasFiles(e)) return;
      e.preventDefault();
      this.#files(e.dataTransfer.files);
    });
  }
}
