#include "journal/format.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

#define FRAME_MAGIC 0x314d5246u // "FRM1"

static const char header_magic[8] = {'B', 'A', 'R', 'I', 'D', 'L', 'O', 'G'};

static void put32(uint8_t *at, uint32_t v) {
    v = htole32(v);
    memcpy(at, &v, sizeof v);
}

static void put64(uint8_t *at, uint64_t v) {
    v = htole64(v);
    memcpy(at, &v, sizeof v);
}

static uint32_t get32(const uint8_t *at) {
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return le32toh(v);
}

static uint64_t get64(const uint8_t *at) {
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return le64toh(v);
}

void header_encode(const struct header *h, uint8_t out[static HEADER_BYTES]) {
    memcpy(out, header_magic, sizeof header_magic);
    put32(out + 8, FORMAT_VERSION);
    put32(out + 12, h->number);
    put64(out + 16, h->salt);
    put64(out + 24, h->size);
    put32(out + 32, h->flags);
    put32(out + 36, h->covers);
    put64(out + 40, h->jpos);
    put64(out + 48, h->batch);
    put64(out + 56, XXH3_64bits(out, 56));
}

// A newer version may lay out everything behind the version differently, its checksum too.
enum header_state header_decode(struct header *h, const uint8_t in[static HEADER_BYTES]) {
    if (memcmp(in, header_magic, sizeof header_magic) != 0) return HEADER_FOREIGN;
    uint32_t version = get32(in + 8);
    if (version != FORMAT_VERSION) return version > FORMAT_VERSION ? HEADER_NEWER : HEADER_BAD;
    if (get64(in + 56) != XXH3_64bits(in, 56)) return HEADER_BAD;
    *h = (struct header){.number = get32(in + 12),
                         .salt = get64(in + 16),
                         .size = get64(in + 24),
                         .flags = get32(in + 32),
                         .covers = get32(in + 36),
                         .jpos = get64(in + 40),
                         .batch = get64(in + 48)};
    return h->number <= h->covers && h->size <= UINT32_MAX ? HEADER_GOOD : HEADER_BAD;
}

void frame_encode(const struct frame *f, uint64_t salt, uint8_t out[static FRAME_BYTES]) {
    put32(out + 8, FRAME_MAGIC);
    put32(out + 12, f->bytes);
    put64(out + 16, f->batch);
    put64(out + 24, f->prev);
    put64(out + 32, f->jpos);
    put64(out, XXH3_64bits_withSeed(out + 8, FRAME_BYTES - 8, salt));
}

bool frame_read(struct frame *f, uint64_t salt, const uint8_t in[static FRAME_BYTES]) {
    if (get32(in + 8) != FRAME_MAGIC) return false;
    if (get64(in) != XXH3_64bits_withSeed(in + 8, FRAME_BYTES - 8, salt)) return false;
    *f = (struct frame){
        .bytes = get32(in + 12), .batch = get64(in + 16), .prev = get64(in + 24), .jpos = get64(in + 32)};
    return f->bytes >= FRAME_BYTES && f->bytes % 8 == 0;
}

static size_t checked_bytes(const struct record_head *h) {
    return h->kind == 0 ? RECORD_BYTES - 8 : RECORD_BYTES - 8 + (size_t)h->length;
}

void record_seal(const struct record_head *h, uint64_t salt, uint8_t *record) {
    put32(record + 8, h->length);
    record[12] = h->kind;
    record[13] = h->flags;
    record[14] = record[15] = 0;
    put32(record + 16, h->refers_to);
    put32(record + 20, h->offset);
    put64(record, XXH3_64bits_withSeed(record + 8, checked_bytes(h), salt));
}

bool record_decode(struct record_head *h, uint32_t offset, const uint8_t in[static RECORD_BYTES]) {
    *h = (struct record_head){.length = get32(in + 8),
                              .kind = in[12],
                              .flags = in[13],
                              .refers_to = get32(in + 16),
                              .offset = get32(in + 20)};
    return h->offset == offset && in[14] == 0 && in[15] == 0 && (h->kind == 0 || h->length <= RECORD_MAX);
}

bool record_verify(const struct record_head *h, uint64_t salt, const uint8_t *record) {
    return get64(record) == XXH3_64bits_withSeed(record + 8, checked_bytes(h), salt);
}
