// The conversations at the left: newest first, with their last message and what is unread.
import { $, el, avatar, ticks } from "./dom.js";
import { dayOrTime } from "./util.js";

export function nameOf(conversation, me) {
  if (!conversation) return "…";
  if (conversation.title) return conversation.title;
  const others = conversation.members.filter((m) => m !== me);
  return others.length ? others.join(", ") : "Notes to yourself";
}

export function glimpse(m) {
  if (!m) return "No messages yet";
  if (m.state === "pending") return "…";
  if (m.state === "gone") return "Not available on this device";
  if (m.kind === "media") {
    const type = m.media?.media_type || "";
    const what = type.startsWith("image/") ? "Picture" : type.startsWith("video/") ? "Video" : type.startsWith("audio/") ? "Sound" : "File";
    return m.media?.filename ? `${what}: ${m.media.filename}` : what;
  }
  return m.text.length > 120 ? m.text.slice(0, 120) + "…" : m.text;
}

export class List {
  #drawing = false;
  #again = false;

  constructor(store, open) {
    this.store = store;
    this.open = open;
    this.current = null;
    this.onChange = () => this.draw();
    store.addEventListener("change", this.onChange);
    this.draw();
  }
  stop() {
    this.store.removeEventListener("change", this.onChange);
    $("conversations").replaceChildren();
    document.title = "barid";
  }

  async #rows() {
    const conversations = await this.store.conversations();
    const rows = await Promise.all(
      conversations.map(async (c) => ({
        c,
        last: (await this.store.last(c.conversation_id, 1))[0],
        unread: await this.store.unread(c.conversation_id),
      })),
    );
    const age = (r) => Date.parse(r.last?.accepted_at || r.last?.created_at || r.c.created_at) || 0;
    return rows.sort((a, b) => age(b) - age(a));
  }

  async draw() {
    if (this.#drawing) {
      this.#again = true;
      return;
    }
    this.#drawing = true;
    do {
      this.#again = false;
      this.#show(await this.#rows());
    } while (this.#again);
    this.#drawing = false;
  }

  #show(rows) {
    const unread = rows.reduce((n, r) => n + r.unread, 0);
    document.title = unread ? `(${unread}) barid` : "barid";
    $("no-conversations").hidden = rows.length > 0;
    const focused = document.activeElement?.dataset?.conversation;
    $("conversations").replaceChildren(...rows.map((r) => this.#row(r)));
    if (focused) $("conversations").querySelector(`[data-conversation="${CSS.escape(focused)}"]`)?.focus();
  }

  #row({ c, last, unread }) {
    const me = this.store.me;
    const name = nameOf(c, me);
    const mine = last && last.by_user_id === me;
    const several = c.members.length > 2 && last && !mine;
    const row = el(
      "button",
      {
        class: "row",
        type: "button",
        "data-conversation": c.conversation_id,
        "aria-current": c.conversation_id === this.current ? "true" : false,
        click: () => this.open(c.conversation_id),
      },
      avatar(el("span", { class: "avatar", "aria-hidden": "true" }), name),
      el("span", { class: "row-name" }, name),
      el("span", { class: "row-time muted" }, last ? dayOrTime(last.accepted_at || last.created_at) : ""),
      el(
        "span",
        { class: "row-last muted" },
        mine && last.state in { sending: 1, sent: 1, delivered: 1, read: 1, rejected: 1, expired: 1 } ? ticks(last.state) : null,
        (several ? `${last.by_user_id}: ` : "") + glimpse(last),
      ),
    );
    if (unread) row.append(el("span", { class: "badge", "aria-label": `${unread} unread` }, String(unread)));
    return row;
  }
}
