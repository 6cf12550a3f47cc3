// Small things that every part uses: ids, waiting, and how times and sizes are written.

// UUIDv7: time first, so that ids sort by age. crypto.randomUUID is v4 and missing outside secure contexts.
export function uuid7(now = Date.now()) {
  const b = crypto.getRandomValues(new Uint8Array(16));
  for (let i = 0; i < 6; i++) b[i] = Math.floor(now / 2 ** (8 * (5 - i))) % 256;
  b[6] = (b[6] & 0x0f) | 0x70;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

// Full jitter: random(0, min(cap, base * 2^attempt)); what the server asked for is a floor.
export function backoff(attempt, floor = 0, base = 500, cap = 60000) {
  return Math.max(floor, Math.random() * Math.min(cap, base * 2 ** Math.min(attempt, 20)));
}

// Waits, but no longer than until the network comes back or `wake` is called.
export function nap(ms) {
  let wake;
  const promise = new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    }
    addEventListener("online", done);
    wake = done;
  });
  promise.wake = wake;
  return promise;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const precise = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const short = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

const sameDay = (a, b) => a.toDateString() === b.toDateString();

export const timeOf = (at) => clock.format(new Date(at));
export const preciseTimeOf = (at) => precise.format(new Date(at));
export function dayOf(at) {
  const then = new Date(at), now = new Date();
  if (sameDay(then, now)) return "Today";
  now.setDate(now.getDate() - 1);
  return sameDay(then, now) ? "Yesterday" : day.format(then);
}
export const dayOrTime = (at) => (sameDay(new Date(at), new Date()) ? timeOf(at) : short.format(new Date(at)));

export function sizeOf(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let n = bytes, u = 0;
  while (n >= 1024 && u < units.length - 1) {
    n /= 1024;
    u++;
  }
  return `${u && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[u]}`;
}
