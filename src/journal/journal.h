// The durable log: append-only segments of checksummed records, group commit, recovery, space accounting.
//
// The journal knows bytes, kinds and positions; what a record means is its owner's (the engine's) business.
//
//   append ──> pending batch ──begin──> batch being written (pwrite + one fdatasync) ──end──> durable
//   (loop)                    (loop)     (commit thread, or inline in the simulator)  (loop)
//
// A record's position (`jpos`) counts appended bytes since the journal was made; it only grows. A caller who
// must not answer before the record is safe waits until journal_durable() has reached the position that
// journal_append gave it.
//
// Space. Every segment has a live count: bytes of records that its owner still needs. The owner says
// journal_release() when it no longer needs one (message settled everywhere). Records such as acks are
// `refers_to` an older segment and are needed exactly as long as that segment exists; the journal tracks that
// itself. A segment with nothing needed is deleted. When garbage outweighs live data, journal_compact_next()
// names a segment whose stragglers the owner should append again and then release.
//
// Failure. A failed write or sync is reported by journal_batch_write as an error after which the process must
// end (the loop calls die()). The journal refuses appends with ERR_FULL below its low-water mark, long before
// the disk is full, except for those marked JOURNAL_URGENT (acks, which free room).
#ifndef BARID_JOURNAL_JOURNAL_H
#define BARID_JOURNAL_JOURNAL_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct io;
struct journal;
struct journal_batch;

typedef uint64_t jpos;

// Where a record is, to read it back or to release it. 16 bytes; copy freely.
struct journal_ref {
    uint32_t segment; // 0 is never a segment
    uint32_t offset;  // of the record's header in its segment file
    uint32_t length;  // payload bytes
    uint32_t reserved;
};

struct journal_options {
    const char *dir;          // below the io's root, e.g. "journal"
    uint64_t segment_bytes;   // 0: 64 MiB
    uint64_t low_water_bytes; // 0: 256 MiB, or 5 % of the file system if that is less
    uint64_t batch_max_bytes; // 0: 16 MiB pending at most; beyond it appends give ERR_BUSY
    bool repair;              // salvage damaged segments instead of refusing
};

enum journal_flags {
    JOURNAL_URGENT = 1,    // allowed below the low-water mark and beyond batch_max
    JOURNAL_EPHEMERAL = 2, // never counted as live: needed only while `refers_to` exists
};

struct journal_record {
    uint8_t kind; // owner's, 1..255
    struct journal_ref ref;
    const uint8_t *payload; // valid during the call only
    uint32_t length;
    uint8_t flags;      // as appended (JOURNAL_EPHEMERAL)
    uint32_t refers_to; // as stored, see journal_append
};

// Called for each valid record in order during open. An error stops the opening.
typedef enum err journal_replay_fn(void *arg, const struct journal_record *r, struct error *e);

// Opens or makes the journal and replays it. Drops a torn tail of the last segment; refuses damage anywhere
// else with ERR_CORRUPT and a text naming the file, the offset and `barid check --repair`. *out is set before the
// first call of `replay`, which may call journal_release and journal_mark_ephemeral, but not append; it is NULL
// again after an error.
enum err journal_open(struct journal **out, struct io *io, const struct journal_options *options,
                      journal_replay_fn *replay, void *arg, struct error *e);
void journal_close(struct journal *j); // pending appends are lost: end the batches first

// Append one record gathered from `parts`. Every replayed or appended record counts as live until released
// (unless JOURNAL_EPHEMERAL). `refers_to`: the segment of the record that this one is about, 0 for none: this
// record's segment will then not be deleted while that one exists. A record that replaces an older one (its
// copy with another state, say) must name the older one's segment, or the older one could come back: it may still
// be in its file when the replacement's is gone. While a compaction runs (journal_compact_next to deletion) the
// journal does this by itself for everything that is appended without JOURNAL_EPHEMERAL.
// ERR_FULL, ERR_BUSY (batch_max_bytes), ERR_TOO_LARGE (512 MiB); ERR_IO: the disk has failed, end the process.
enum err journal_append(struct journal *j, uint8_t kind, unsigned flags, uint32_t refers_to, const struct iovec *parts,
                        int n, struct journal_ref *ref, jpos *pos);
// The owner no longer needs this record.
void journal_release(struct journal *j, const struct journal_ref *ref);
// During replay: this record turned out to be ephemeral, about `refers_to`. Those appended with JOURNAL_EPHEMERAL
// are so already.
void journal_mark_ephemeral(struct journal *j, const struct journal_ref *ref, uint32_t refers_to);
// During replay: this record refers to that segment. Only for a record whose payload says so: of one that was appended
// during a compaction, what it referred to may not be stored.
void journal_mark_refers(struct journal *j, const struct journal_ref *ref, uint32_t refers_to);

jpos journal_appended(const struct journal *j);
jpos journal_durable(const struct journal *j);

// Read a record's payload back, from the pending batch or from disk, checksum verified. Replaces what is in `out`.
enum err journal_read(struct journal *j, const struct journal_ref *ref, struct buf *out);

// The batch seam. begin: NULL when nothing is pending or a batch is out already. write: any one thread.
// end: loop thread; makes the batch's records durable and deletes segments that became empty. A batch lies in one
// segment: it is one write and one sync.
struct journal_batch *journal_batch_begin(struct journal *j);
enum err journal_batch_write(struct journal_batch *b, struct error *e);
void journal_batch_end(struct journal *j, struct journal_batch *b);

// Work beside the batches: making the next segment ahead, taking empty ones away. journal_batch_end does it
// itself unless journal_background(j, true) was called; then: begin (loop thread; NULL when there is none to do
// or one is out), run (any one thread, beside batches), end (loop thread).
struct journal_chore;
void journal_background(struct journal *j, bool on);
struct journal_chore *journal_chore_begin(struct journal *j);
enum err journal_chore_run(struct journal_chore *c, struct error *e);
void journal_chore_end(struct journal *j, struct journal_chore *c);

// The segment whose live records should move next, when garbage outweighs live data; 0 when none. The owner
// calls journal_scan on it, appends what it still needs again, and releases the old records.
uint32_t journal_compact_next(struct journal *j);
enum err journal_scan(struct journal *j, uint32_t segment, journal_replay_fn *each, void *arg, struct error *e);
// The same in parts of about max_bytes, so that the loop is never held long: *offset is 0 at first, and 0 again
// after the last part.
enum err journal_scan_part(struct journal *j, uint32_t segment, uint32_t *offset, uint32_t max_bytes,
                           journal_replay_fn *each, void *arg, struct error *e);

bool journal_is_full(struct journal *j); // below the low-water mark: publishing is refused

struct journal_stats {
    uint64_t segments, bytes_on_disk, live_bytes, appended_bytes, appended_records, syncs, free_bytes;
};
void journal_stats(const struct journal *j, struct journal_stats *out);

#endif
