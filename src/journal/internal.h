// What the journal's own files share. Owned by the loop thread except where it says otherwise.
#ifndef BARID_JOURNAL_INTERNAL_H
#define BARID_JOURNAL_INTERNAL_H

#include "base/io.h"
#include "journal/format.h"
#include "journal/journal.h"
#include "journal/segment.h"

#include <pthread.h>

#define SEGMENT_DEFAULT   (64u << 20)
#define SEGMENT_MIN       (64u << 10)
#define SEGMENT_MAX       (1u << 30)
#define BATCH_MAX_DEFAULT (16u << 20)
#define LOW_WATER_DEFAULT (256u << 20)
#define URGENT_FACTOR     8 // urgent appends may take so many times batch_max
#define OPEN_FILES_MAX    128
#define SPACE_CHECK_BYTES (16u << 20)

struct segment {
    uint32_t number;
    uint32_t bytes; // of the file
    uint32_t end;   // where the next frame or record goes
    int fd;         // -1: closed to save descriptors
    uint64_t salt;
    jpos base;             // position of DATA_AT
    uint64_t record_bytes; // of all records in it
    uint64_t live;         // of those that their owner needs
    jpos released_at;      // what was appended when the last of them was released
    uint64_t last_batch;   // the newest batch that is in it or before it
    uint32_t *refs;        // sorted: segments that must go before this one may
    uint32_t ref_count, ref_cap;
    uint32_t pins;    // a write or a scan needs fd
    uint64_t used_at; // for closing the file least recently read
};

// Records of one batch: all in one segment, so that a batch is one write and one sync, and a segment is begun
// only when the one before it is durable to its end.
struct chunk {
    struct chunk *next;
    struct segment *seg;
    uint32_t offset; // in the file, of the frame
    struct buf bytes;
};

// What a batch needs on the commit thread.
struct journal_batch {
    struct journal *journal;
    struct chunk *chunk; // NULL: none is out
    int fd;
    bool broken;
    char path[SEGMENT_PATH];
};

// The next segment, made ahead. Guarded by `lock`: made by a chore on the commit thread, or by the loop thread
// when it cannot wait.
struct spare {
    pthread_mutex_t lock;
    uint32_t number;      // 0: none
    uint32_t next_number; // the one it would have
    uint32_t bytes;
    uint64_t salt;
    int fd;
};

struct retiree {
    struct header header; // the tombstone it becomes
};

struct journal_chore {
    struct journal *journal;
    struct retiree *retirees; // ascending
    uint32_t count;
    bool make_spare;
    uint32_t spare_number;
    enum err err;
    struct error error;
};

struct journal {
    struct io *io;
    char dir[IO_NAME_MAX];
    struct journal_options options;
    int lock_fd;

    struct segment **segs; // ascending
    uint32_t seg_count, seg_cap;
    struct segment *current; // NULL: no room for one yet
    uint32_t last_number;    // of any segment that was ever begun
    uint64_t read_clock;
    uint32_t open_files;

    struct chunk *pending, *pending_last, *idle_chunk;
    uint64_t pending_bytes;
    struct journal_batch batch;
    uint64_t last_batch; // number of the newest begun
    bool sealed;         // nothing was written since the last empty frame
    jpos appended, durable, opened_at;

    bool broken; // a write or sync off the batch's path failed: the next batch reports it
    struct error broken_error;

    struct spare spare;
    struct journal_chore chore;
    bool chore_out, background, retire_due;
    struct header *tombstones; // ascending; used by the chore at hand only
    uint32_t tombstone_count, tombstone_cap;

    uint64_t record_bytes, live; // sums over all segments
    uint32_t compacting;
    const struct journal_record *replaying;

    bool full;
    uint64_t free_bytes, low_water;
    uint64_t space_checked_ns;
    jpos space_checked_at;

    uint64_t appended_records, syncs;
};

// journal.c
struct segment *journal_segment(const struct journal *j, uint32_t number); // NULL: not there
enum err journal_add_segment(struct journal *j, const struct segment *s, struct segment **out);
void journal_drop_segment(struct journal *j, struct segment *s);
void journal_break(struct journal *j, enum err err, const struct error *e);
void journal_discard(struct journal *j); // frees, writes nothing

// append.c
enum err journal_seal(struct journal *j, struct error *e);

// read.c
enum err journal_file(struct journal *j, struct segment *s); // opens s->fd when it is closed
void journal_close_file(struct journal *j);                  // one that nobody needs now

// space.c
void space_record(struct journal *j, struct segment *s, uint32_t length, unsigned flags);
void space_refer(struct journal *j, struct segment *s, uint32_t to);
bool space_blocked(struct journal *j, struct segment *s); // refers to a segment that still exists
bool space_deletable(struct journal *j, struct segment *s);
void space_check(struct journal *j);

// chore.c
enum err spare_take(struct journal *j, uint32_t number, uint64_t bytes, struct segment *out, struct error *e);
enum err tombstone_add(struct journal *j, const struct header *h);
void chore_run_inline(struct journal *j);

#endif
