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
  #nodes = new Map(); // conversation_id -> { node, mark }: kept, so that a click never misses its row

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
    const age = (r) => new Date(r.last?.accepted_at || r.last?.created_at || r.c.created_at).getTime() || 0;
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
    const box = $("conversations");
    rows.forEach((r, i) => {
      const node = this.#nodeOf(r);
      if (box.children[i] !== node) box.insertBefore(node, box.children[i] || null);
    });
    while (box.children.length > rows.length) box.lastElementChild.remove();
  }

  #nodeOf(r) {
    const id = r.c.conversation_id;
    const current = id === this.current;
    const mark = [r.c.title, r.c.members, r.last?.message_id, r.last?.state, r.unread, current].join();
    const known = this.#nodes.get(id);
    if (known?.mark === mark) return known.node;
    const node = known?.node || el("button", { class: "row", type: "button", "data-conversation": id, click: () => this.open(id) });
    this.#nodes.set(id, { node, mark });
    if (current) node.setAttribute("aria-current", "true");
    else node.removeAttribute("aria-current");
    node.replaceChildren(...this.#content(r));
    return node;
  }

  #content({ c, last, unread }) {
    const me = this.store.me;
    const name = nameOf(c, me);
    const mine = last && last.by_user_id === me;
    const several = c.members.length > 2 && last && !mine;
    return [
      avatar(el("span", { class: "avatar", "aria-hidden": "true" }), name),
      el("span", { class: "row-name" }, name),
      el("span", { class: "row-time muted" }, last ? dayOrTime(last.accepted_at || last.created_at) : ""),
      el(
        "span",
        { class: "row-last muted" },
        mine && last.state in { sending: 1, sent: 1, delivered: 1, read: 1, rejected: 1, expired: 1 } ? ticks(last.state) : null,
        (several ? `${last.by_user_id}: ` : "") + glimpse(last),
      ),
      ...(unread ? [el("span", { class: "badge", "aria-label": `${unread} unread` }, String(unread))] : []),
    ];
  }
}
