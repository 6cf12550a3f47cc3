// Keeps a copy of the page, so that it opens without the server too: what is written then waits in the store.
// The server's own copy is taken whenever it can be reached. Calls to the API never pass through here.
const CACHE = "barid";
const PAGE = ["/", "/style.css", "/icon.svg", "/app.js", "/api.js", "/derive.js", "/dom.js", "/link.js", "/list.js", "/outbox.js", "/store.js",
  "/thread.js", "/track.js", "/util.js", "/tick-sending.svg", "/tick-sent.svg", "/tick-double.svg", "/tick-failed.svg"];

addEventListener("install", (e) => {
  skipWaiting();
  e.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(PAGE)));
});
addEventListener("activate", (e) => e.waitUntil(clients.claim()));

addEventListener("fetch", (e) => {
  const url = new URL(e.request.url);
  if (e.request.method === "GET" && url.origin === location.origin && PAGE.includes(url.pathname)) e.respondWith(fresh(e.request, url));
});

async function fresh(request, url) {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(url.pathname, response.clone());
    return response;
  } catch (e) {
    return (await cache.match(url.pathname)) || Promise.reject(e);
  }
}
