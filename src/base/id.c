// UUIDs and names. The layout of the ones we make (RFC 9562, version 7):
//
//   byte  0            6             8                        16
//         | unix ms 48 | 0111 r 12   | 10 r 62                |
//
// Ids made in the same millisecond (or after the clock was set back) are the last one plus a random step, so
// they sort in the order they were made and still cannot be guessed from one another.
#include "base/id.h"

#include "base/io.h"

#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define RANDOM_B_MASK ((UINT64_C(1) << 62) - 1)

static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;

static struct id assemble(const struct io_last_id *from) {
    struct id id;
    for (int i = 0; i < 6; i++) id.b[i] = (uint8_t)(from->ms >> (40 - 8 * i));
    id.b[6] = (uint8_t)(0x70 | from->random_a >> 8);
    id.b[7] = (uint8_t)from->random_a;
    for (int i = 0; i < 8; i++) id.b[8 + i] = (uint8_t)(from->random_b >> (56 - 8 * i));
    id.b[8] |= 0x80;
    return id;
}

static void step(struct io_last_id *last, uint32_t by) {
    last->random_b += (uint64_t)by + 1;
    if (last->random_b <= RANDOM_B_MASK) return;
    last->random_b &= RANDOM_B_MASK;
    if (++last->random_a <= 0xFFF) return;
    last->random_a = 0;
    last->ms++;
}

struct id id_new(struct io *io) {
    uint64_t random[2];
    io->v->random(io, random, sizeof random);
    int64_t now = io_wall_ms(io);
    uint64_t ms = now > 0 ? (uint64_t)now & UINT64_C(0xFFFFFFFFFFFF) : 0;

    pthread_mutex_lock(&making);
    struct io_last_id *last = &io->last_id;
    if (ms > last->ms) {
        *last = (struct io_last_id){.ms = ms, .random_a = random[0] & 0xFFF, .random_b = random[1] & RANDOM_B_MASK};
    } else {
        step(last, (uint32_t)random[0]);
    }
    struct id id = assemble(last);
    pthread_mutex_unlock(&making);
    return id;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool dash_at(size_t at) { return at == 8 || at == 13 || at == 18 || at == 23; }

struct id id_of_name(const void *name, size_t len) {
    struct id id;
    crypto_generichash(id.b, sizeof id.b, name, len, (const uint8_t *)"barid: id of a name", 19);
    id.b[6] = (uint8_t)(0x80 | (id.b[6] & 0x0f));
    id.b[8] = (uint8_t)(0x80 | (id.b[8] & 0x3f));
    return id;
}

bool id_parse(const char *text, size_t len, struct id *out) {
    if (len != ID_TEXT - 1) return false;
    struct id id;
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        if (dash_at(at)) {
            if (text[at++] != '-') return false;
            continue;
        }
        int high = hex_value(text[at]), low = hex_value(text[at + 1]);
        if (high < 0 || low < 0) return false;
        id.b[n++] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    *out = id;
    return true;
}

void id_format(const struct id *id, char out[static ID_TEXT]) {
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < sizeof id->b; i++) {
        if (dash_at(at)) out[at++] = '-';
        out[at++] = digits[id->b[i] >> 4];
        out[at++] = digits[id->b[i] & 15];
    }
    out[at] = 0;
}

bool id_equal(const struct id *a, const struct id *b) { return memcmp(a->b, b->b, sizeof a->b) == 0; }

static bool name_first(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool name_valid(const char *text, size_t len) {
    if (len == 0 || len > NAME_MAX_LENGTH || !name_first(text[0])) return false;
    for (size_t i = 1; i < len; i++) {
        char c = text[i];
        if (!name_first(c) && c != '.' && c != '_' && c != '-') return false;
    }
    return true;
}
