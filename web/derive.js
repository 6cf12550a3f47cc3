// The id of the conversation that a set of people has without a title: every client derives the same one, so that
// two of them beginning it, here and in a terminal, begin one conversation.
//
//   "dm-" + 32 hex digits of BLAKE2b-128 (RFC 7693) over the members' ids, sorted, each once, a zero after each

const MASK = (1n << 64n) - 1n;
const IV = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
const SIGMA = [
  "0123456789abcdef", "ea489fd61c02b753", "b8c052fdae367194", "7931dcbe265a40f8", "905724afe1bc683d",
  "2c6a0b834d75fe19", "c51fed4a0763928b", "db7ec13950f4862a", "6fe9b308c2d714a5", "a2847615fb9e3cd0",
].map((row) => [...row].map((c) => parseInt(c, 16)));
const COLUMNS = [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]];

const rotate = (x, n) => ((x >> n) | (x << (64n - n))) & MASK;

function mix(v, [a, b, c, d], x, y) {
  v[a] = (v[a] + v[b] + x) & MASK;
  v[d] = rotate(v[d] ^ v[a], 32n);
  v[c] = (v[c] + v[d]) & MASK;
  v[b] = rotate(v[b] ^ v[c], 24n);
  v[a] = (v[a] + v[b] + y) & MASK;
  v[d] = rotate(v[d] ^ v[a], 16n);
  v[c] = (v[c] + v[d]) & MASK;
  v[b] = rotate(v[b] ^ v[c], 63n);
}

function compress(h, block, taken, last) {
  const m = Array.from({ length: 16 }, (_, i) => block.getBigUint64(8 * i, true));
  const v = [...h, ...IV];
  v[12] ^= BigInt(taken);
  if (last) v[14] ^= MASK;
  for (let round = 0; round < 12; round++) {
    const s = SIGMA[round % 10];
    COLUMNS.forEach((at, i) => mix(v, at, m[s[2 * i]], m[s[2 * i + 1]]));
  }
  return h.map((x, i) => x ^ v[i] ^ v[i + 8]);
}

export function blake2b(bytes, length = 16) {
  let h = [...IV];
  h[0] ^= 0x01010000n ^ BigInt(length);
  for (let at = 0, last = false; !last; at += 128) {
    last = at + 128 >= bytes.length;
    const block = new Uint8Array(128);
    block.set(bytes.subarray(at, at + 128));
    h = compress(h, new DataView(block.buffer), Math.min(at + 128, bytes.length), last);
  }
  const out = new DataView(new ArrayBuffer(64));
  h.forEach((x, i) => out.setBigUint64(8 * i, x, true));
  return Array.from(new Uint8Array(out.buffer, 0, length), (b) => b.toString(16).padStart(2, "0")).join("");
}

// User ids are ASCII: sorting by code units is sorting by bytes.
export function conversationOf(members) {
  const sorted = [...new Set(members)].sort();
  return "dm-" + blake2b(new TextEncoder().encode(sorted.map((m) => m + "\0").join("")));
}
