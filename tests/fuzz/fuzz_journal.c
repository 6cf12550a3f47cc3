// Fuzzes the recovery of the journal: the input is what a segment file holds. clang's libFuzzer drives it
// (tools/run_tests.py fuzz); the corpus is in fuzz/journal.
//
//   0    flags   1: repair instead of refusing, 2: give it right checksums first, 4: damage the copy of the header
//   1    header  64 bytes, for both copies
//   65   frames, zeros behind them to SIZE
//
// A checksum is a wall that no random change gets over, so with flag 2 the headers, frames and records that the
// bytes describe get the right one. Whatever the input: no crash; what a repair has mended is sound afterwards and
// replays the same; and a journal that opens can be written to and keeps what was written.
#include "base/assert.h"
#include "base/log.h"
#include "journal/check.h"
#include "journal/format.h"
#include "journal/journal.h"
#include "sim/io_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define DIR     "journal"
#define SEGMENT DIR "/0000000001.seg"
#define SIZE    (64u << 10)

enum { REPAIR = 1, SEAL = 2, DAMAGE_COPY = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct replayed {
    uint64_t records, live, hash;
};

static enum err count(void *arg, const struct journal_record *r, struct error *e) {
    struct replayed *seen = arg;
    (void)e;
    ASSERT(r->kind != 0 && r->length == r->ref.length);
    seen->records++;
    seen->live += (r->flags & JOURNAL_EPHEMERAL) == 0;
    seen->hash = XXH3_64bits_withSeed(r->payload, r->length, seen->hash + r->kind);
    return ERR_OK;
}

// ---- the file

static uint32_t get32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put64(uint8_t *at, uint64_t v) {
    for (int i = 0; i < 8; i++) at[i] = (uint8_t)(v >> 8 * i);
}

static void seal_records(uint8_t *file, uint32_t at, uint32_t end, uint64_t salt) {
    while (at + RECORD_BYTES <= end) {
        uint32_t length = get32(file + at + 8) % (end - at - RECORD_BYTES + 1);
        struct record_head h = {.length = length,
                                .kind = file[at + 12],
                                .flags = file[at + 13],
                                .refers_to = get32(file + at + 16),
                                .offset = at};
        record_seal(&h, salt, file + at);
        at += (uint32_t)record_size(length);
    }
}

// The upper halves of positions and batch numbers: no journal lives to use them.
static void small(uint8_t *file, uint32_t at) { memset(file + at + 4, 0, 4); }

static void seal(uint8_t *file) {
    struct header h;
    small(file, 40);
    small(file, 48);
    put64(file + 56, XXH3_64bits(file, 56));
    if (header_decode(&h, file) != HEADER_GOOD) return;
    for (uint32_t at = DATA_AT; at + FRAME_BYTES <= SIZE;) {
        uint32_t bytes = get32(file + at + 12);
        if (bytes < FRAME_BYTES || bytes > SIZE - at || bytes % 8 != 0) return;
        for (uint32_t field = 16; field < FRAME_BYTES; field += 8) small(file, at + field);
        put64(file + at, XXH3_64bits_withSeed(file + at + 8, FRAME_BYTES - 8, h.salt));
        seal_records(file, at + FRAME_BYTES, at + bytes, h.salt);
        at += bytes;
    }
}

static void put_file(struct io *io, const uint8_t *file) {
    int fd;
    ASSERT(io->v->make_dir(io, DIR) == ERR_OK && io->v->sync_dir(io, "") == ERR_OK);
    ASSERT(io->v->open(io, SEGMENT, IO_READ | IO_WRITE | IO_CREATE, &fd) == ERR_OK);
    ASSERT(io->v->pwrite(io, fd, file, SIZE, 0) == ERR_OK && io->v->datasync(io, fd) == ERR_OK);
    ASSERT(io->v->close(io, fd) == ERR_OK && io->v->sync_dir(io, DIR) == ERR_OK);
}

// ---- what must hold

// By abort, unlike die(): so that libFuzzer keeps the input.
static _Noreturn void found(const char *what, const char *text) {
    fprintf(stderr, "%s: %s\n", what, text);
    abort();
}

static struct journal *open_journal(struct io *io, bool repair, struct replayed *seen, enum err *err) {
    struct journal_options o = {.dir = DIR, .segment_bytes = SIZE, .low_water_bytes = 1, .repair = repair};
    struct journal *j;
    struct error e = {0};
    *seen = (struct replayed){0};
    *err = journal_open(&j, io, &o, count, seen, &e);
    ASSERT(*err == ERR_OK || e.text[0] != 0);
    return *err == ERR_OK ? j : NULL;
}

static void must_go_on(struct io_sim *sim, struct journal *j, const struct replayed *before) {
    struct io *io = io_sim_io(sim);
    struct iovec part = {(void *)"after", 5};
    struct replayed again;
    enum err err = journal_append(j, 1, 0, 0, &part, 1, NULL, NULL);
    ASSERT(err == ERR_OK);
    for (struct journal_batch *b; (b = journal_batch_begin(j)) != NULL;) {
        ASSERT(journal_batch_write(b, NULL) == ERR_OK);
        journal_batch_end(j, b);
    }
    io_sim_crash(sim);
    journal_close(j);
    j = open_journal(io, false, &again, &err);
    if (err != ERR_OK) found("what was appended cannot be opened again", err_text(err));
    ASSERT(again.records == before->records + 1 || before->live == 0); // a segment of nothing live may go
    journal_close(j);
}

static void must_be_sound(struct io *io, const struct replayed *repaired) {
    struct check_result result;
    struct error e;
    if (journal_check(io, DIR, false, NULL, NULL, &result, &e) != ERR_OK) found("not sound after a repair", e.text);
    ASSERT(result.lost_ranges == 0 && result.records == repaired->records);
}

static void try_file(struct io_sim *sim, bool repair) {
    struct io *io = io_sim_io(sim);
    struct check_result result;
    struct replayed seen;
    struct error e;
    enum err err, checked = journal_check(io, DIR, false, NULL, NULL, &result, &e);
    struct journal *j = open_journal(io, repair, &seen, &err);
    if (checked == ERR_OK) ASSERT(err == ERR_OK && seen.records == result.records);
    if (checked == ERR_CORRUPT && !repair) ASSERT(err == ERR_CORRUPT);
    if (err != ERR_OK) return;
    if (repair) {
        journal_close(j);
        must_be_sound(io, &seen);
        struct replayed again;
        j = open_journal(io, false, &again, &err);
        ASSERT(err == ERR_OK && again.hash == seen.hash);
    }
    must_go_on(sim, j, &seen);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    log_set_level(LOG_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t file[SIZE];
    if (size < 1 + HEADER_BYTES) return 0;
    size_t n = size - 1 - HEADER_BYTES, room = SIZE - DATA_AT;
    memset(file, 0, sizeof file);
    memcpy(file, data + 1, HEADER_BYTES);
    memcpy(file + DATA_AT, data + 1 + HEADER_BYTES, n < room ? n : room);
    if (data[0] & SEAL) seal(file);
    struct header h;
    if (header_decode(&h, file) == HEADER_GOOD && h.size > 4 * SIZE) return 0; // a repair would give it that length
    memcpy(file + HEADER_COPY_AT, file, HEADER_BYTES);
    if (data[0] & DAMAGE_COPY) file[HEADER_COPY_AT + 16] ^= 1;
    struct io_sim *sim = io_sim_new(1);
    put_file(io_sim_io(sim), file);
    try_file(sim, data[0] & REPAIR);
    io_sim_free(sim);
    return 0;
}
