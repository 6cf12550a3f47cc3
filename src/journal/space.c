// Space accounting: which segments may be deleted, which should be compacted, whether the disk is full.
//
// A segment may go when no record in it is live and no segment that its records refer to still exists: an ack
// must outlive the message it is about, or the message would come back at the next start.
//
// References lead from newer segments to older ones, so there are no circles, and the oldest segment is never
// held back. Garbage behind a long-lived backlog is held by the backlog's segments: moving those forward
// (compaction) lets all of it go. When garbage outweighs live data, a pass over every segment copies at most
// `live` bytes and frees everything that was garbage when it began, which is more: so the disk holds at most
// about twice the live data plus what is appended during the pass, and copying costs at most one byte written
// again for each byte of garbage freed. journal_space_test.c runs that churn.
//
// The pick: among segments with live records that nothing holds back, the one that frees most for a byte copied,
// counting with its own garbage a share of the garbage that waits for it.
#include "journal/internal.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define CHECK_EVERY_NS      1000000000u
#define CHECK_FULL_EVERY_NS 100000000u

void space_record(struct journal *j, struct segment *s, uint32_t length, unsigned flags) {
    uint64_t size = record_size(length);
    s->record_bytes += size;
    j->record_bytes += size;
    if (flags & JOURNAL_EPHEMERAL) return;
    s->live += size;
    j->live += size;
}

// Where `to` is, or would be, among the sorted references.
static uint32_t ref_place(const struct segment *s, uint32_t to) {
    uint32_t low = 0, high = s->ref_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (s->refs[mid] < to) low = mid + 1;
        else high = mid;
    }
    return low;
}

void space_refer(struct journal *j, struct segment *s, uint32_t to) {
    if (to == 0 || to == s->number) return;
    uint32_t at = ref_place(s, to);
    if (at < s->ref_count && s->refs[at] == to) return;
    if (journal_segment(j, to) == NULL) return;
    if (s->ref_count == s->ref_cap) {
        uint32_t cap = s->ref_cap ? 2 * s->ref_cap : 4;
        uint32_t *grown = realloc(s->refs, cap * sizeof *grown);
        if (grown == NULL) die("out of memory for the journal's references");
        s->refs = grown;
        s->ref_cap = cap;
    }
    memmove(s->refs + at + 1, s->refs + at, (s->ref_count - at) * sizeof *s->refs);
    s->refs[at] = to;
    s->ref_count++;
}

bool space_blocked(struct journal *j, struct segment *s) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->ref_count; i++)
        if (journal_segment(j, s->refs[i]) != NULL) s->refs[kept++] = s->refs[i];
    s->ref_count = kept;
    return kept > 0;
}

static bool settled(const struct journal *j, const struct segment *s) {
    return s->released_at <= j->durable && s->base + (s->end - DATA_AT) <= j->durable && s->pins == 0;
}

bool space_deletable(struct journal *j, struct segment *s) {
    if (s == j->current || s->live > 0) return false;
    if (!settled(j, s)) {
        j->retire_due = true; // look again after the next batch
        return false;
    }
    return !space_blocked(j, s);
}

static void no_longer_live(struct journal *j, const struct journal_ref *ref) {
    struct segment *s = journal_segment(j, ref->segment);
    ASSERT(s != NULL);
    uint64_t size = record_size(ref->length);
    ASSERT(s->live >= size); // released twice, or ephemeral
    s->live -= size;
    j->live -= size;
    s->released_at = j->appended;
    if (s->live == 0) j->retire_due = true;
}

void journal_release(struct journal *j, const struct journal_ref *ref) { no_longer_live(j, ref); }

void journal_mark_ephemeral(struct journal *j, const struct journal_ref *ref, uint32_t refers_to) {
    struct segment *s = journal_segment(j, ref->segment);
    ASSERT(s != NULL);
    const struct journal_record *now = j->replaying;
    bool already = now != NULL && now->ref.segment == ref->segment && now->ref.offset == ref->offset &&
                   (now->flags & JOURNAL_EPHEMERAL) != 0;
    if (!already) no_longer_live(j, ref);
    space_refer(j, s, refers_to);
}

void journal_mark_refers(struct journal *j, const struct journal_ref *ref, uint32_t refers_to) {
    space_refer(j, journal_segment(j, ref->segment), refers_to);
}

// --- compaction ---

static uint64_t garbage(const struct segment *s) { return s->record_bytes - s->live; }

static bool worthwhile(const struct journal *j) {
    uint64_t records = j->record_bytes, live = j->live;
    if (j->current != NULL) {
        records -= j->current->record_bytes;
        live -= j->current->live;
    }
    return records - live > live && records - live >= 2 * j->options.segment_bytes;
}

static bool candidate(struct journal *j, struct segment *s) {
    return s != j->current && s->live > 0 && settled(j, s) && !space_blocked(j, s);
}

static uint32_t place_of(const struct journal *j, uint32_t number) {
    uint32_t low = 0, high = j->seg_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (j->segs[mid]->number < number) low = mid + 1;
        else high = mid;
    }
    return low;
}

static uint32_t best_candidate(struct journal *j) {
    uint64_t *gain = calloc(j->seg_count, sizeof *gain);
    if (gain == NULL) return 0;
    for (uint32_t i = 0; i < j->seg_count; i++) {
        struct segment *s = j->segs[i];
        gain[i] += garbage(s);
        if (s == j->current || !space_blocked(j, s)) continue;
        for (uint32_t r = 0; r < s->ref_count; r++) gain[place_of(j, s->refs[r])] += garbage(s) / s->ref_count;
    }
    uint32_t best = 0;
    double best_score = -1;
    for (uint32_t i = 0; i < j->seg_count; i++) {
        double score = (double)gain[i] / (double)(j->segs[i]->live + 1);
        if (score <= best_score || !candidate(j, j->segs[i])) continue;
        best = j->segs[i]->number;
        best_score = score;
    }
    free(gain);
    return best;
}

uint32_t journal_compact_next(struct journal *j) {
    struct segment *s = journal_segment(j, j->compacting);
    if (s != NULL) return s->live > 0 ? s->number : 0;
    j->compacting = 0;
    if (!worthwhile(j)) return 0;
    return j->compacting = best_candidate(j);
}

// --- room on the disk ---

// While a segment is being made the disk may look full that is not: one that it has no room for takes all there is
// before it is given up.
void space_check(struct journal *j) {
    struct io_space space;
    if (j->chore_out && j->chore.make_spare) return;
    j->space_checked_ns = io_monotonic_ns(j->io);
    j->space_checked_at = j->appended;
    if (j->io->v->space(j->io, &space) != ERR_OK) return; // keep what we knew
    uint64_t twentieth = space.total_bytes / 20;
    j->low_water = j->options.low_water_bytes;
    if (j->low_water == 0) j->low_water = twentieth < LOW_WATER_DEFAULT ? twentieth : LOW_WATER_DEFAULT;
    j->free_bytes = space.free_bytes;
    j->full = space.free_bytes < j->low_water;
}

bool journal_is_full(struct journal *j) {
    uint64_t pause = j->full ? CHECK_FULL_EVERY_NS : CHECK_EVERY_NS;
    if (j->appended - j->space_checked_at >= SPACE_CHECK_BYTES || io_monotonic_ns(j->io) - j->space_checked_ns >= pause)
        space_check(j);
    return j->full;
}
