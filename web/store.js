// The browser's first safe point: everything is in IndexedDB before it is sent, shown or acknowledged.
//
//   messages       by message_id. Own ones: state sending, sent, delivered, read, rejected, expired.
//                  Others': pending (announced, content not here yet), here, gone.
//     order        sorts a conversation: the service's seq; for what has none yet a number beyond every seq
//     broken: 1    while pending, when its content has come in part only; nothing of that is kept
//     unread: 1    present while unread, so that counts come from an index and cannot drift
//     todo         what this device still owes the server: fetch, received or read
//   outbox         own messages the server has not accepted yet, in the order of writing
//   conversations  as the server last described them
//   meta           cursor (of which device)
//
// All tabs share it. A tab that changes something tells the others through a BroadcastChannel.

const UNSENT = 2 ** 50; // `order` of an own message without seq: UNSENT + its outbox number

const asked = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

function upgrade(db) {
  const messages = db.createObjectStore("messages", { keyPath: "message_id" });
  messages.createIndex("order", ["conversation_id", "order"]);
  messages.createIndex("unread", ["conversation_id", "unread"]);
  messages.createIndex("todo", "todo");
  db.createObjectStore("outbox", { keyPath: "n", autoIncrement: true });
  db.createObjectStore("conversations", { keyPath: "conversation_id" });
  db.createObjectStore("meta");
}

const RANK = { sending: 0, rejected: 0, sent: 1, expired: 2, delivered: 3, read: 4 };
// States only go forward, whatever order the news arrives in.
function advance(message, state) {
  if (RANK[state] > RANK[message.state]) message.state = state;
}

export class Store extends EventTarget {
  static async open(user_id) {
    const request = indexedDB.open(`barid:${user_id}`, 1);
    request.onupgradeneeded = () => upgrade(request.result);
    const db = await asked(request);
    navigator.storage?.persist?.(); // ask not to be evicted; the answer changes nothing here
    return new Store(db, user_id);
  }

  constructor(db, user_id) {
    super();
    this.db = db;
    this.me = user_id;
    db.onversionchange = () => db.close();
    this.channel = new BroadcastChannel(`barid:${user_id}`);
    this.channel.onmessage = (e) => this.#emit(e.data);
  }

  close() {
    this.channel.close();
    this.db.close();
  }
  static async erase(user_id) {
    await asked(indexedDB.deleteDatabase(`barid:${user_id}`));
  }

  #emit(detail) {
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }
  // what: "messages", "conversations" or "outbox"
  changed(detail) {
    this.#emit(detail);
    this.channel.postMessage(detail);
  }

  // Runs work(stores…) in one transaction and resolves only when it is on disk.
  async #write(names, work) {
    const t = this.db.transaction(names, "readwrite", { durability: "strict" });
    const done = new Promise((resolve, reject) => {
      t.oncomplete = resolve;
      t.onabort = () => reject(t.error || new Error("the browser's store refused the change"));
    });
    done.catch(() => {});
    let result;
    try {
      result = await work(...names.map((n) => t.objectStore(n)));
    } catch (e) {
      try {
        t.abort();
      } catch {
        // it had ended by itself
      }
      throw e;
    }
    await done;
    return result;
  }
  #read(name) {
    return this.db.transaction(name).objectStore(name);
  }

  // ---- sending ----

  async addOutgoing(message) {
    await this.#write(["messages", "outbox"], async (messages, outbox) => {
      const { message_id, conversation_id } = message;
      const n = await asked(outbox.add({ message_id, conversation_id, created_at: message.created_at }));
      messages.put({ ...message, by_user_id: this.me, state: "sending", order: UNSENT + n });
    });
    this.changed({ what: "outbox", conversation_id: message.conversation_id });
  }

  outbox() {
    return asked(this.#read("outbox").getAll());
  }

  async keepTicket(n, ticket) {
    await this.#write(["outbox"], async (outbox) => {
      const item = await asked(outbox.get(n));
      if (item) outbox.put({ ...item, ticket });
    });
  }

  async accepted(item, answer) {
    await this.#settle(item, (m) => {
      m.seq = m.order = answer.seq;
      m.accepted_at = answer.accepted_at;
      advance(m, "sent");
    });
  }
  async rejected(item, reason) {
    await this.#settle(item, (m) => {
      m.state = "rejected";
      m.reason = reason;
    });
  }
  async #settle(item, change) {
    await this.#write(["messages", "outbox"], async (messages, outbox) => {
      outbox.delete(item.n);
      const m = await asked(messages.get(item.message_id));
      if (!m) return;
      change(m);
      messages.put(m);
    });
    this.changed({ what: "messages", conversation_id: item.conversation_id });
  }
  async discard(message) {
    await this.#write(["messages"], async (messages) => messages.delete(message.message_id));
    this.changed({ what: "messages", conversation_id: message.conversation_id });
  }

  // ---- receiving ----

  async cursor(device_id) {
    const kept = await asked(this.#read("meta").get("cursor"));
    return kept && kept.device_id === device_id ? kept.cursor : 0;
  }

  // Entries of the mailbox, in order, and with them the cursor: one transaction, so neither is ahead.
  async putEntries(device_id, entries) {
    if (!entries.length) return;
    await this.#write(["messages", "conversations", "meta"], async (messages, conversations, meta) => {
      for (const e of entries) {
        const m = await asked(messages.get(e.message_id));
        const c = await asked(conversations.get(e.conversation_id));
        const next = e.type === "message" ? this.#announced(m, e) : this.#receipted(m, e, c);
        if (next) messages.put(next);
      }
      meta.put({ device_id, cursor: entries[entries.length - 1].cursor }, "cursor");
    });
    for (const id of new Set(entries.map((e) => e.conversation_id))) this.changed({ what: "messages", conversation_id: id });
  }

  #announced(m, e) {
    if (m) return null; // seen before: a replay
    const { message_id, conversation_id, by_user_id, kind, bytes, seq, accepted_at } = e;
    return { message_id, conversation_id, by_user_id, kind, bytes, seq, accepted_at, order: seq, state: "pending", todo: "fetch" };
  }
  // `delivered` comes once, when everybody has it; `read` comes for each reader, and is shown when all have read it.
  #receipted(m, e, conversation) {
    if (!m || m.by_user_id !== this.me) return null;
    if (e.type !== "read") {
      advance(m, e.type);
      return m;
    }
    m.readers = [...new Set([...(m.readers || []), e.by_user_id])];
    if (m.readers.length >= (conversation?.members.length ?? 2) - 1) advance(m, "read");
    return m;
  }

  todo() {
    return asked(this.#read("messages").index("todo").getAll());
  }

  // The content is here. Only now may the server be told `received`.
  async content(message_id, fields) {
    const m = await this.#update(message_id, (x) => {
      Object.assign(x, fields, { state: "here", todo: "received" });
      delete x.broken;
      if (x.by_user_id !== this.me) x.unread = 1;
    });
    return m;
  }
  brokenOff(message_id) {
    return this.#update(message_id, (x) => {
      if (x.broken || x.state !== "pending") return false;
      x.broken = 1;
    });
  }
  gone(message_id) {
    return this.#update(message_id, (x) => {
      x.state = "gone";
      delete x.todo;
    });
  }
  told(message_id, what) {
    return this.#update(message_id, (x) => {
      if (x.todo !== what) return false; // it owes something else by now
      delete x.todo;
    });
  }
  async markRead(message_id) {
    return this.#update(message_id, (x) => {
      if (!x.unread) return false;
      delete x.unread;
      x.todo = "read"; // which implies received
    });
  }
  async #update(message_id, change) {
    const m = await this.#write(["messages"], async (messages) => {
      const x = await asked(messages.get(message_id));
      if (!x || change(x) === false) return null;
      messages.put(x);
      return x;
    });
    if (m) this.changed({ what: "messages", conversation_id: m.conversation_id });
    return m;
  }

  // ---- showing ----

  message(message_id) {
    return asked(this.#read("messages").get(message_id));
  }

  // The last `limit` messages of a conversation, oldest first.
  last(conversation_id, limit) {
    const index = this.#read("messages").index("order");
    const range = IDBKeyRange.bound([conversation_id, 0], [conversation_id, Infinity]);
    return new Promise((resolve, reject) => {
      const found = [];
      const request = index.openCursor(range, "prev");
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const at = request.result;
        if (at) found.unshift(at.value);
        if (at && found.length < limit) at.continue();
        else resolve(found);
      };
    });
  }
  unread(conversation_id) {
    return asked(this.#read("messages").index("unread").count([conversation_id, 1]));
  }
  conversations() {
    return asked(this.#read("conversations").getAll());
  }
  conversation(id) {
    return asked(this.#read("conversations").get(id));
  }
  async putConversations(list) {
    await this.#write(["conversations"], async (conversations) => list.forEach((c) => conversations.put(c)));
    this.changed({ what: "conversations" });
  }
}
