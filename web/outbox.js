// Sends what the store's outbox holds: one message of a conversation at a time, conversations in parallel.
//
// A message that may yet succeed holds its followers and is tried again with full jitter, always under the same
// id, so that the server can tell a repetition. One that was refused for good steps aside, visibly.
import { backoff, nap } from "./util.js";
import { ApiError } from "./api.js";

export class Outbox extends EventTarget {
  #busy = new Map(); // conversation_id -> the nap it is in, or null
  #stopped = false;
  #onChange = (e) => {
    if (e.detail.what === "outbox") this.pump();
  };

  constructor(store, api) {
    super();
    this.store = store;
    this.api = api;
    store.addEventListener("change", this.#onChange);
    this.pump();
  }

  stop() {
    this.#stopped = true;
    this.store.removeEventListener("change", this.#onChange);
    this.hurry();
  }

  // The link is up again: whoever waits for a retry need not wait longer.
  hurry() {
    for (const sleep of this.#busy.values()) sleep?.wake?.();
  }

  async pump() {
    for (const item of await this.store.outbox()) {
      if (!this.#busy.has(item.conversation_id) && !this.#stopped) this.#work(item.conversation_id);
    }
  }

  async #work(conversation_id) {
    this.#busy.set(conversation_id, null);
    try {
      for (;;) {
        const item = (await this.store.outbox()).find((i) => i.conversation_id === conversation_id);
        if (!item || this.#stopped) return;
        await this.#deliver(item);
      }
    } finally {
      this.#busy.delete(conversation_id);
    }
  }

  async #deliver(item) {
    for (let attempt = 0; !this.#stopped; attempt++) {
      try {
        await this.store.accepted(item, await this.#attempt(item));
        return;
      } catch (e) {
        if (!(e instanceof ApiError)) throw e;
        if (e.status === 401) return this.stop(); // signed out: all of it waits for the next sign-in
        if (item.ticket && (e.field === "media" || e.field === "ticket")) {
          item.ticket = null; // it ran out while we were away: upload again
        } else if (!e.retryable) {
          return this.store.rejected(item, e.message);
        }
        const sleep = nap(backoff(attempt, e.retryAfter));
        this.#busy.set(item.conversation_id, sleep);
        await sleep;
        this.#busy.set(item.conversation_id, null);
      }
    }
  }

  async #attempt(item) {
    const m = await this.store.message(item.message_id);
    const body = { message_id: m.message_id, by_user_id: m.by_user_id, created_at: new Date(m.created_at).toISOString() };
    if (m.kind === "text") {
      body.message_text = m.text;
    } else {
      if (!item.ticket) await this.#upload(item, m.media);
      body.media = item.ticket;
    }
    return this.api.send(m.conversation_id, body);
  }

  async #upload(item, media) {
    const answer = await this.api.upload(media.blob, media.filename, (part) =>
      this.dispatchEvent(new CustomEvent("progress", { detail: { message_id: item.message_id, part } })),
    );
    item.ticket = answer.ticket;
    await this.store.keepTicket(item.n, answer.ticket);
  }
}
