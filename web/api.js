// The HTTP door: one function a call, errors as ApiError. What may be tried again says so (`retryable`).

export class ApiError extends Error {
  constructor(status, body, retryAfter = 0) {
    const e = (body && body.error) || {};
    super(e.reason || (status ? `the server answered ${status}` : "the server cannot be reached"));
    this.status = status;
    this.code = e.code || "";
    this.field = e.field || "";
    this.retryAfter = retryAfter; // milliseconds
  }
  static brokenOff() {
    return new ApiError(0, { error: { code: "broken_off", reason: "the answer was broken off" } });
  }
  get retryable() {
    return this.status === 0 || this.status === 408 || this.status === 425 || this.status === 429 || this.status >= 500;
  }
}

const parse = (text) => {
  try {
    return text ? JSON.parse(text) : {};
  } catch {
    return {};
  }
};
const pause = (seconds) => (Number(seconds) > 0 ? Number(seconds) * 1000 : 0);
const path = (...parts) => "/" + parts.map(encodeURIComponent).join("/");

export class Api {
  constructor(token = null) {
    this.token = token;
    this.onUnauthorized = () => {};
  }

  async request(method, url, body, { timeout = 10000, blob = false } = {}) {
    const headers = {};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response, content;
    try {
      response = await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store",
        signal: AbortSignal.timeout(timeout),
      });
    } catch {
      throw new ApiError(0);
    }
    try {
      content = blob && response.ok ? await response.blob() : parse(await response.text());
    } catch {
      throw ApiError.brokenOff();
    }
    if (!response.ok) throw this.failed(response.status, content, response.headers.get("Retry-After"));
    return content;
  }

  failed(status, body, retryAfter) {
    if (status === 401 && this.token) this.onUnauthorized();
    return new ApiError(status, body, pause(retryAfter));
  }

  register(user_id, password, display_name) {
    const body = { user_id, password };
    if (display_name) body.display_name = display_name;
    return this.request("POST", "/users", body);
  }
  login(user_id, password, device_name, device_id) {
    const body = { user_id, password, device_name };
    if (device_id) body.device_id = device_id;
    return this.request("POST", "/sessions", body);
  }
  logout() {
    return this.request("DELETE", "/sessions/current");
  }
  user(id) {
    return this.request("GET", path("users", id));
  }
  conversations() {
    return this.request("GET", "/conversation");
  }
  conversation(id) {
    return this.request("GET", path("conversation", id));
  }
  createConversation(conversation) {
    return this.request("POST", "/conversation", conversation);
  }
  send(conversation_id, message) {
    return this.request("POST", path("conversation", conversation_id), message);
  }
  message(id) {
    return this.request("GET", path("message", id));
  }
  media(id) {
    return this.request("GET", path("message", id) + "/media", undefined, { timeout: 600000, blob: true });
  }
  tell(id, what) {
    return this.request("POST", path("message", id) + "/" + what);
  }
  journey(id) {
    return this.request("GET", path("message", id) + "/journey");
  }
  mailbox(after, limit = 1) {
    return this.request("GET", `/mailbox?after=${after}&limit=${limit}&wait=0`);
  }

  // fetch() cannot report how much has gone up; XMLHttpRequest can.
  upload(blob, filename, onProgress) {
    return new Promise((resolve, reject) => {
      const x = new XMLHttpRequest();
      x.open("POST", "/media");
      x.setRequestHeader("Authorization", `Bearer ${this.token}`);
      x.setRequestHeader("Content-Type", blob.type || "application/octet-stream");
      // Header values are bytes: what is not plain travels percent-encoded.
      if (filename) x.setRequestHeader("X-Filename", encodeURIComponent(filename));
      let last = Date.now();
      const watch = setInterval(() => {
        if (Date.now() - last > 30000) x.abort(); // no byte for 30 s: the road is cut
      }, 5000);
      x.upload.onprogress = (e) => {
        last = Date.now();
        if (e.lengthComputable) onProgress(e.loaded / e.total);
      };
      x.onloadend = () => {
        clearInterval(watch);
        if (x.status >= 200 && x.status < 300) resolve(parse(x.responseText));
        else reject(this.failed(x.status, parse(x.responseText), x.status ? x.getResponseHeader("Retry-After") : null));
      };
      x.send(blob);
    });
  }
}
