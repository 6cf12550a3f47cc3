// The WebSocket: replays what came after the cursor, then stays live. Frames are stored first, then acknowledged;
// what a stored message still owes (its content, `received`, `read`) is worked off from the store, so that it goes
// on after a reload where it stopped.
import { backoff, nap } from "./util.js";
import { ApiError } from "./api.js";

const SILENCE = 60000; // after so long without a frame we ask whether something is waiting
const PARALLEL = 4;

export class Link extends EventTarget {
  #stopped = false;
  #socket = null;
  #sleep = null;
  #queue = [];
  #storing = false;
  #settling = false;
  #again = false;
  #failures = 0;
  #lastFrame = 0;
  #onChange = (e) => {
    if (e.detail.what === "messages") this.settle();
  };
  #onVisible = () => {
    if (document.visibilityState === "visible") this.#check();
  };

  constructor(store, api, device_id) {
    super();
    this.store = store;
    this.api = api;
    this.device_id = device_id;
    this.state = "connecting";
    store.addEventListener("change", this.#onChange);
    document.addEventListener("visibilitychange", this.#onVisible);
    this.watch = setInterval(() => Date.now() - this.#lastFrame > SILENCE && this.#check(), 15000);
    this.#run();
    this.settle();
  }

  stop() {
    this.#stopped = true;
    clearInterval(this.watch);
    this.store.removeEventListener("change", this.#onChange);
    document.removeEventListener("visibilitychange", this.#onVisible);
    this.#socket?.close();
    this.#sleep?.wake();
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  async #run() {
    for (let attempt = 0; !this.#stopped; attempt++) {
      const started = Date.now();
      const reason = await this.#connection();
      if (this.#stopped) return;
      if (Date.now() - started > 10000) attempt = 0; // it had worked for a while
      this.#become("offline");
      const floor = reason === "replaced" ? 10000 : 0; // another link of this device: do not fight over it
      this.#sleep = nap(backoff(attempt, floor, 500, 15000));
      await this.#sleep;
    }
  }

  // One connection from opening to closing; resolves with the reason of its end.
  #connection() {
    return new Promise((resolve) => {
      const url = location.origin.replace(/^http/, "ws") + "/events";
      const socket = new WebSocket(url, ["barid.v1"]);
      this.#socket = socket;
      this.#queue = [];
      const patience = setTimeout(() => socket.close(), 10000);
      socket.onopen = async () => {
        const after = await this.store.cursor(this.device_id);
        if (socket.readyState === WebSocket.OPEN) {
          socket.send(JSON.stringify({ type: "hello", token: this.api.token, after }));
        }
      };
      socket.onmessage = (e) => {
        this.#lastFrame = Date.now();
        if (socket !== this.#socket) return;
        this.#queue.push(JSON.parse(e.data));
        this.#drain(socket, patience);
      };
      socket.onclose = (e) => {
        clearTimeout(patience);
        if (this.#socket === socket) this.#socket = null;
        resolve(e.reason);
      };
    });
  }

  // All that has come in so far is one transaction and one acknowledgement.
  async #drain(socket, patience) {
    if (this.#storing) return;
    this.#storing = true;
    try {
      while (this.#queue.length && socket === this.#socket) {
        const frames = this.#queue.splice(0, 256);
        const entries = frames.filter((f) => f.cursor);
        await this.store.putEntries(this.device_id, entries);
        if (entries.length && socket.readyState === WebSocket.OPEN) {
          socket.send(JSON.stringify({ type: "ack", cursor: entries[entries.length - 1].cursor }));
        }
        const drained = frames.some((f) => f.type === "drained");
        if (drained || entries.length) clearTimeout(patience);
        if (drained) this.#become("online");
      }
    } catch {
      socket.close(); // the store refused: nothing was acknowledged, it all comes again
    } finally {
      this.#storing = false;
    }
    if (this.#queue.length && this.#socket) this.#drain(this.#socket, patience);
  }

  // A socket can be dead without either end having noticed. The mailbox tells.
  async #check() {
    const socket = this.#socket;
    if (!socket) return this.#sleep?.wake();
    this.#lastFrame = Date.now();
    try {
      const before = await this.store.cursor(this.device_id);
      const { entries } = await this.api.mailbox(before);
      if (!entries.length) return;
      await nap(5000);
      if ((await this.store.cursor(this.device_id)) === before) socket.close();
    } catch {
      socket.close();
    }
  }

  // ---- what is owed to the server ----

  async settle() {
    if (this.#settling) {
      this.#again = true;
      return;
    }
    this.#settling = true;
    do {
      this.#again = false;
      const todo = await this.store.todo();
      const work = async () => {
        for (let m = todo.shift(); m && !this.#stopped; m = todo.shift()) await this.#settleOne(m);
      };
      await Promise.all(Array.from({ length: PARALLEL }, work)).then(
        () => (this.#failures = 0),
        async (e) => {
          if (!(e instanceof ApiError)) throw e;
          todo.length = 0;
          await nap(backoff(this.#failures++, e.retryAfter));
          this.#again = true;
        },
      );
    } while (this.#again && !this.#stopped);
    this.#settling = false;
  }

  async #settleOne(m) {
    try {
      if (m.todo === "fetch") {
        await this.#fetch(m);
      } else {
        await this.api.tell(m.message_id, m.todo);
        await this.store.told(m.message_id, m.todo);
      }
    } catch (e) {
      if (e instanceof ApiError && e.code === "broken_off" && m.todo === "fetch") await this.store.brokenOff(m.message_id);
      if (!(e instanceof ApiError) || e.retryable || e.status === 401) throw e;
      if (m.todo === "fetch") await this.store.gone(m.message_id);
      else await this.store.told(m.message_id, m.todo);
    }
  }

  async #fetch(m) {
    const content = await this.api.message(m.message_id);
    if (m.kind === "text") {
      await this.store.content(m.message_id, { text: content.message_text });
      return;
    }
    const blob = await this.api.media(m.message_id);
    const { media_type, filename, bytes } = content.media && typeof content.media === "object" ? content.media : content;
    // Not every browser, and nothing behind a proxy that drops the length, says that there should have been more.
    if (blob.size < (bytes ?? 0)) throw ApiError.brokenOff();
    await this.store.content(m.message_id, { media: { blob, media_type, filename, bytes: bytes ?? blob.size } });
  }
}
