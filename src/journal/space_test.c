// Space: empty segments go, those that still matter stay, and garbage never outgrows the live data by much.
#include "journal/owner_test.h"

#include "base/log.h"

#define SEGMENT (64u << 10)

static struct owner *opened(struct io_sim **sim, uint64_t seed) {
    *sim = io_sim_new(seed);
    struct owner *o = owner_new(*sim);
    assert_int_equal(owner_open(o), ERR_OK);
    return o;
}

static void done(struct owner *o) {
    struct io_sim *sim = o->sim;
    owner_free(o);
    io_sim_free(sim);
}

static bool exists(struct owner *o, uint32_t segment) {
    char path[64];
    uint64_t size;
    snprintf(path, sizeof path, "journal/%010u.seg", segment);
    return io_sim_size(o->sim, path, &size) && size > 4096;
}

// Publishes until the records go to a new segment; its first item.
static uint32_t publish_into_next(struct owner *o) {
    uint32_t before = o->count > 0 ? o->items[o->count - 1].ref.segment : 0;
    do {
        assert_int_equal(owner_publish(o, 5000), ERR_OK);
        assert_int_equal(owner_flush(o), ERR_OK);
    } while (o->items[o->count - 1].ref.segment == before);
    return o->count - 1;
}

static void ack_range(struct owner *o, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++)
        if (owner_live(o, i)) assert_int_equal(owner_ack(o, i), ERR_OK);
}

static void an_empty_segment_goes_once_the_acks_are_durable(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 1);
    publish_into_next(o);
    uint32_t second = publish_into_next(o);
    ack_range(o, 0, second);
    struct journal_batch *b = journal_batch_begin(o->j);
    assert_true(exists(o, 1));
    assert_int_equal(journal_batch_write(b, NULL), ERR_OK);
    assert_true(exists(o, 1));
    journal_batch_end(o->j, b);
    o->durable = journal_durable(o->j);
    assert_false(exists(o, 1));
    owner_crash(o, true);
    owner_reopen(o);
    done(o);
}

static void acks_outlive_the_messages_they_are_about(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 2);
    publish_into_next(o);
    uint32_t second = publish_into_next(o); // segment 1 is full, 2 begins
    ack_range(o, 1, second);                // acks in 2 about all of 1 but the first item
    uint32_t third = publish_into_next(o);
    ack_range(o, second, third); // everything in 2 is acked, in 3
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_true(exists(o, 1));
    assert_true(exists(o, 2)); // its acks still matter
    owner_crash(o, true);
    owner_reopen(o);
    assert_true(owner_live(o, 0));
    assert_false(owner_live(o, 1));
    ack_range(o, 0, 1);
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_false(exists(o, 1));
    assert_false(exists(o, 2)); // in the same pass
    done(o);
}

// A copy is made while its original's segment still holds others; the copy is acked, and its segment may not go
// before the original's has gone.
static void a_moved_and_acked_message_does_not_come_back(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 3);
    publish_into_next(o);
    for (int i = 0; i < 6; i++) publish_into_next(o);
    uint32_t last = o->count - 1;
    for (uint32_t i = 0; i < last; i++)
        if (i % 10 > 1) assert_int_equal(owner_ack(o, i), ERR_OK);
    publish_into_next(o); // the copy's segment shall hold no ack about older ones
    uint32_t from = journal_compact_next(o->j);
    assert_true(from > 0);
    uint32_t item = 0;
    while (!owner_live(o, item) || o->items[item].ref.segment != from) item++;
    struct journal_ref old = o->items[item].ref, copy;
    jpos pos;
    assert_int_equal(owner_append(o, OWNER_MOVED, JOURNAL_URGENT, item, 0, 5000, &copy, &pos), ERR_OK);
    o->items[item].ref = copy;
    journal_release(o->j, &old);
    assert_int_equal(owner_flush(o), ERR_OK);
    owner_crash(o, true); // the constraint must be in the file
    owner_reopen(o);
    copy = o->items[item].ref;
    uint32_t first = publish_into_next(o); // beyond the copy's segment
    assert_int_equal(owner_ack(o, item), ERR_OK);
    for (uint32_t i = 0; i < first; i++)
        if (owner_live(o, i) && o->items[i].ref.segment == copy.segment) assert_int_equal(owner_ack(o, i), ERR_OK);
    publish_into_next(o);
    ack_range(o, first, o->count - 1);
    publish_into_next(o);
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_true(exists(o, from));
    assert_true(exists(o, copy.segment));
    owner_crash(o, true);
    owner_reopen(o);
    done(o);
}

static uint64_t live_bytes(struct owner *o) {
    struct journal_stats s;
    journal_stats(o->j, &s);
    return s.live_bytes;
}

// A backlog that stays at the head, traffic behind it, and now and then one of the backlog is taken: its ack would
// hold back a whole segment of garbage for as long as the backlog lives.
static void garbage_behind_a_backlog_stays_bounded(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 4);
    const uint32_t backlog = 600;
    for (uint32_t i = 0; i < backlog; i++) {
        assert_int_equal(owner_publish(o, 2000), ERR_OK);
        if (i % 8 == 7) assert_int_equal(owner_flush(o), ERR_OK);
    }
    uint64_t copied = 0, appended = 0;
    for (uint32_t i = 0; i < 12000; i++) {
        uint32_t item = o->count;
        assert_int_equal(owner_publish(o, 1000), ERR_OK);
        assert_int_equal(owner_ack(o, item), ERR_OK);
        appended += 1100;
        if (i % 64 == 0) {
            uint32_t taken = (uint32_t)io_sim_random(sim, backlog);
            if (owner_live(o, taken) && taken % 4 == 0) assert_int_equal(owner_ack(o, taken), ERR_OK);
        }
        if (i % 8 == 7) {
            jpos before = journal_appended(o->j);
            assert_int_equal(owner_compact(o), ERR_OK);
            copied += journal_appended(o->j) - before;
            assert_int_equal(owner_flush(o), ERR_OK);
        }
        struct io_sim_stats s;
        io_sim_stats(sim, &s);
        if (s.used_bytes > 2 * live_bytes(o) + 8 * SEGMENT)
            fail_msg("after %u: %llu bytes used for %llu live", i, (unsigned long long)s.used_bytes,
                     (unsigned long long)live_bytes(o));
    }
    assert_true(copied > 0);
    assert_true(copied < appended); // moving costs less than what is moved away
    owner_crash(o, true);
    owner_reopen(o);
    done(o);
}

static void plain_traffic_needs_no_copying_and_few_files(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 5);
    for (uint32_t i = 0; i < 8000; i++) {
        assert_int_equal(owner_publish(o, 1000), ERR_OK);
        if (i >= 20) assert_int_equal(owner_ack(o, i - 20), ERR_OK);
        if (i % 8 == 7) assert_int_equal(owner_flush(o), ERR_OK);
        assert_int_equal(journal_compact_next(o->j), 0);
        struct io_sim_stats s;
        io_sim_stats(sim, &s);
        assert_true(s.used_bytes < 6 * SEGMENT && s.files < 8);
    }
    done(o);
}

static void compaction_ends_when_there_is_nothing_to_gain(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 6);
    for (int i = 0; i < 12; i++) publish_into_next(o);
    for (uint32_t i = 0; i + 1 < o->count; i++)
        if (i % 3 != 0) assert_int_equal(owner_ack(o, i), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    int rounds = 0;
    while (journal_compact_next(o->j) != 0 && rounds < 100) {
        assert_int_equal(owner_compact(o), ERR_OK);
        assert_int_equal(owner_flush(o), ERR_OK);
        rounds++;
    }
    assert_in_range(rounds, 1, 20);
    journal_close(o->j);
    owner_reopen(o);
    done(o);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_segment_goes_once_the_acks_are_durable),
        cmocka_unit_test(acks_outlive_the_messages_they_are_about),
        cmocka_unit_test(a_moved_and_acked_message_does_not_come_back),
        cmocka_unit_test(garbage_behind_a_backlog_stays_bounded),
        cmocka_unit_test(plain_traffic_needs_no_copying_and_few_files),
        cmocka_unit_test(compaction_ends_when_there_is_nothing_to_gain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
