// The browser client, put together: sign-in, then store, list and thread; and, in one tab only, link and outbox.
//
// util    ids, back-off, times            list    the conversations
// api     HTTP calls                      thread  the open one, and writing
// store   IndexedDB: the safe point       track   the journey of a message
// outbox  sending                         dom     making elements     derive  conversations without a title
// link    receiving                       sw      the page without the server
import { $, avatar } from "./dom.js";
import { Api, ApiError } from "./api.js";
import { Store } from "./store.js";
import { Outbox } from "./outbox.js";
import { Link } from "./link.js";
import { List, nameOf } from "./list.js";
import { Thread } from "./thread.js";
import { Track } from "./track.js";
import { uuid7 } from "./util.js";
import { conversationOf } from "./derive.js";

const SESSION = "barid.session"; // {token, user_id, device_id}
const device = (user_id) => `barid.device.${user_id}`; // survives signing out by expiry

const session = () => JSON.parse(localStorage.getItem(SESSION) || "null");

// ---- signing in ----

let registering = false;

function showSignin(message = "") {
  $("app").hidden = true;
  $("signin").hidden = false;
  $("signin-error").textContent = message;
  $("signin-form").user_id.focus();
}

function toggleRegistering() {
  registering = !registering;
  $("display-label").hidden = !registering;
  $("signin-go").textContent = registering ? "Create account" : "Sign in";
  $("signin-other").textContent = registering ? "I have an account" : "New here? Create an account";
  $("signin-form").password.autocomplete = registering ? "new-password" : "current-password";
  $("signin-error").textContent = "";
}

function deviceName() {
  const found = /(Firefox|Edg|Chrome|Safari)\//.exec(navigator.userAgent);
  return `web (${found ? found[1].replace("Edg", "Edge") : "browser"})`;
}

async function signIn(event) {
  event.preventDefault();
  const form = $("signin-form");
  const user_id = form.user_id.value.trim().toLowerCase();
  const password = form.password.value;
  const api = new Api();
  $("signin-error").textContent = "";
  $("signin-go").disabled = true;
  try {
    if (registering) await api.register(user_id, password, form.display_name.value.trim());
    const s = await api.login(user_id, password, deviceName(), localStorage.getItem(device(user_id)));
    localStorage.setItem(device(s.user_id), s.device_id);
    localStorage.setItem(SESSION, JSON.stringify({ token: s.token, user_id: s.user_id, device_id: s.device_id }));
    form.reset();
    if (registering) toggleRegistering();
    await start(session());
  } catch (e) {
    if (!(e instanceof ApiError)) throw e;
    $("signin-error").textContent = signInError(e);
  } finally {
    $("signin-go").disabled = false;
  }
}

function signInError(e) {
  if (e.status === 401) return "User name or password is wrong.";
  if (e.status === 409) return "This user name is taken.";
  if (e.status === 429) return "Too many attempts. Wait a little, then try again.";
  const fields = { user_id: "User name", password: "Password", display_name: "Your name" };
  return fields[e.field] ? `${fields[e.field]}: ${e.message}.` : `That did not work: ${e.message}.`;
}

// ---- signed in ----

let running = null;

async function start({ token, user_id, device_id }) {
  const api = new Api(token);
  const store = await Store.open(user_id);
  const parts = { api, store, user_id, device_id, release: null };
  running = parts;
  api.onUnauthorized = () => running === parts && stop("Your session has ended. Sign in again; nothing is lost.", true);

  $("signin").hidden = true;
  $("app").hidden = false;
  $("me-name").textContent = user_id;
  avatar($("me-avatar"), user_id);

  parts.track = new Track(store, api);
  parts.thread = new Thread(store, api, null, { track: (id) => parts.track.show(id), close: () => (location.hash = "") });
  parts.list = new List(store, (id) => {
    location.hash = `#${id}`;
  });
  parts.onChange = (e) => e.detail.what === "messages" && missing(parts, e.detail.conversation_id);
  store.addEventListener("change", parts.onChange);
  refreshConversations(parts);
  becomeLeader(parts);
  await route();
}

// One tab of a browser holds the link and sends; the others read and write the store. When it closes, the next
// tab waiting for the lock takes over.
function becomeLeader(parts) {
  showLink("follower");
  const lead = () =>
    new Promise((release) => {
      if (running !== parts) return release();
      parts.release = release;
      parts.outbox = new Outbox(parts.store, parts.api);
      parts.thread.useOutbox(parts.outbox);
      parts.link = new Link(parts.store, parts.api, parts.device_id);
      showLink(parts.link.state);
      parts.link.addEventListener("state", () => {
        showLink(parts.link.state);
        if (parts.link.state !== "online") return;
        parts.outbox.hurry();
        refreshConversations(parts);
      });
    });
  if (navigator.locks) navigator.locks.request(`barid:${parts.user_id}`, lead);
  else lead();
}

function showLink(state) {
  const said = { online: "online", offline: "no connection, trying…", connecting: "connecting…", follower: "linked through another tab" };
  $("link-status").textContent = said[state];
  $("link-status").dataset.state = state;
}

async function refreshConversations({ api, store }) {
  try {
    const { conversations } = await api.conversations();
    await store.putConversations(conversations);
  } catch (e) {
    if (!(e instanceof ApiError)) throw e; // else: the store's copy will do until the link is up
  }
}

// A message of a conversation we have not heard of: somebody has begun it with us.
async function missing(parts, id) {
  if (await parts.store.conversation(id)) return;
  try {
    await parts.store.putConversations([await parts.api.conversation(id)]);
  } catch (e) {
    if (!(e instanceof ApiError)) throw e;
  }
}

function stop(message, keep) {
  const parts = running;
  running = null;
  parts.link?.stop();
  parts.outbox?.stop();
  parts.list.stop();
  parts.thread.stop();
  parts.track.stop();
  parts.store.removeEventListener("change", parts.onChange);
  parts.release?.();
  parts.store.close();
  localStorage.removeItem(SESSION);
  if (!keep) localStorage.removeItem(device(parts.user_id));
  history.replaceState(null, "", location.pathname);
  showSignin(message);
  return parts;
}

async function signOut() {
  const waiting = (await running.store.outbox()).length;
  const warning = waiting ? `${waiting} of your messages have not been sent yet and would be lost. ` : "";
  if (!confirm(`${warning}Sign out and remove the messages kept in this browser?`)) return;
  try {
    await running.api.logout();
  } catch (e) {
    if (e.status !== 401) return showLink("offline");
  }
  if (running) stop("", false);
  await Store.erase($("me-name").textContent);
}

// ---- conversations ----

async function route() {
  if (!running) return;
  const id = decodeURIComponent(location.hash.slice(1));
  const known = id && (await running.store.conversation(id));
  $("app").classList.toggle("in-thread", Boolean(known));
  running.list.current = known ? id : null;
  running.list.draw();
  if (known) await running.thread.open(id);
  else running.thread.leave();
}

function newDialog() {
  $("new-form").reset();
  $("new-error").textContent = "";
  $("new-dialog").showModal();
}

// The same people have one untitled conversation, not one more each time.
async function existing(members, title) {
  const wanted = [...new Set([...members, running.user_id])].sort().join();
  const all = await running.store.conversations();
  return title ? null : all.find((c) => !c.title && [...c.members].sort().join() === wanted);
}

async function createConversation(event) {
  event.preventDefault();
  const form = $("new-form");
  const members = form.elements.members.value.toLowerCase().split(/[\s,;]+/).filter(Boolean);
  const title = form.elements.title.value.trim();
  if (!members.length) return void ($("new-error").textContent = "Name at least one person.");
  try {
    let c = await existing(members, title);
    if (!c) {
      const conversation_id = title ? uuid7() : conversationOf([...members, running.user_id]);
      const wish = { conversation_id, members };
      if (title) wish.title = title;
      c = await running.api.createConversation(wish);
      await running.store.putConversations([c]);
    }
    $("new-dialog").close();
    location.hash = `#${c.conversation_id}`;
  } catch (e) {
    if (!(e instanceof ApiError)) throw e;
    $("new-error").textContent = e.field === "members" ? `Members: ${e.message}.` : `That did not work: ${e.message}.`;
  }
}

$("signin-form").addEventListener("submit", signIn);
$("signin-other").addEventListener("click", toggleRegistering);
$("sign-out").addEventListener("click", signOut);
$("new-conversation").addEventListener("click", newDialog);
$("new-cancel").addEventListener("click", () => $("new-dialog").close());
$("new-form").addEventListener("submit", createConversation);
addEventListener("hashchange", route);
// Another tab signed in or out.
addEventListener("storage", (e) => {
  if (e.key === SESSION) location.reload();
});

navigator.serviceWorker?.register("sw.js").catch(() => {}); // without it the page needs the server to open

if (session()) start(session());
else showSignin();
