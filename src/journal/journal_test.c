// The journal as its owner sees it: appending, batches, reading back, opening again, limits, the lock.
#include "journal/owner_test.h"

#include "base/log.h"
#include "journal/format.h"

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

static void expect_payload(struct journal *j, const struct journal_ref *ref, const char *text) {
    struct buf out;
    buf_init(&out, 1 << 20);
    buf_add_str(&out, "left from before");
    assert_int_equal(journal_read(j, ref, &out), ERR_OK);
    assert_int_equal(out.len, strlen(text));
    assert_memory_equal(out.data, text, out.len);
    buf_release(&out);
}

static enum err append_text(struct journal *j, const char *text, unsigned flags, struct journal_ref *ref, jpos *pos) {
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    return journal_append(j, 9, flags, 0, &part, 1, ref, pos);
}

static void a_record_is_readable_at_every_stage(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 1);
    struct journal_ref a, b, empty;
    jpos pa, pb, pe;
    assert_int_equal(append_text(o->j, "first", 0, &a, &pa), ERR_OK);
    expect_payload(o->j, &a, "first"); // pending
    struct journal_batch *batch = journal_batch_begin(o->j);
    assert_non_null(batch);
    assert_int_equal(append_text(o->j, "second, of another length", 0, &b, &pb), ERR_OK);
    assert_int_equal(journal_append(o->j, 9, 0, 0, NULL, 0, &empty, &pe), ERR_OK);
    assert_true(pa < pb && pb < pe);
    expect_payload(o->j, &a, "first"); // on its way
    assert_null(journal_batch_begin(o->j));
    assert_int_equal(journal_batch_write(batch, NULL), ERR_OK);
    assert_true(journal_durable(o->j) < pa);
    journal_batch_end(o->j, batch);
    assert_true(journal_durable(o->j) >= pa && journal_durable(o->j) < pb);
    expect_payload(o->j, &a, "first"); // in the file
    expect_payload(o->j, &b, "second, of another length");
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_int_equal(journal_durable(o->j), pe);
    expect_payload(o->j, &b, "second, of another length");
    expect_payload(o->j, &empty, "");
    done(o);
}

static void a_batch_is_one_write_and_one_sync(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 2);
    assert_int_equal(owner_publish(o, 10), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    struct io_sim_stats before, after;
    io_sim_stats(sim, &before);
    for (int i = 0; i < 100; i++) assert_int_equal(owner_publish(o, 100), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    io_sim_stats(sim, &after);
    uint64_t calls = 0;
    for (int i = 0; i < SIM_OPS; i++) calls += after.calls[i] - before.calls[i];
    assert_int_equal(after.calls[SIM_PWRITE] - before.calls[SIM_PWRITE], 1);
    assert_int_equal(after.calls[SIM_DATASYNC] - before.calls[SIM_DATASYNC], 1);
    assert_int_equal(calls, 2);
    done(o);
}

static void everything_is_replayed_in_order_by_the_next_opening(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 3);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(owner_publish(o, (uint32_t)(i * 7 % 1500)), ERR_OK);
        if (i % 9 == 0) assert_int_equal(owner_batch(o), ERR_OK);
    }
    assert_int_equal(owner_flush(o), ERR_OK);
    jpos end = journal_appended(o->j);
    struct journal_stats s;
    journal_stats(o->j, &s);
    assert_true(s.segments > 3);
    assert_int_equal(s.appended_records, 300);
    journal_close(o->j);
    owner_reopen(o);
    assert_int_equal(o->replayed_order, 300);
    assert_true(journal_appended(o->j) >= end);
    for (uint32_t i = 0; i < o->count; i++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        assert_int_equal(journal_read(o->j, &o->items[i].ref, &out), ERR_OK);
        assert_int_equal(out.len, 12 + i * 7 % 1500);
        buf_release(&out);
    }
    done(o);
}

static void pending_records_are_gone_after_close(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 4);
    assert_int_equal(owner_publish(o, 10), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_int_equal(owner_publish(o, 10), ERR_OK);
    journal_close(o->j);
    assert_int_equal(owner_open(o), ERR_OK);
    assert_int_equal(o->replayed_order, 1);
    done(o);
}

static void a_record_larger_than_a_segment_gets_its_own(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 5);
    assert_int_equal(owner_publish(o, 100), ERR_OK);
    assert_int_equal(owner_publish(o, 1 << 20), ERR_OK);
    assert_int_equal(owner_publish(o, 100), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_true(o->items[0].ref.segment < o->items[1].ref.segment);
    assert_true(o->items[1].ref.segment <= o->items[2].ref.segment);
    journal_close(o->j);
    owner_reopen(o);
    assert_int_equal(o->replayed_order, 3);
    done(o);
}

static void too_large_a_record_is_refused(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 6);
    struct iovec parts[2] = {{o, RECORD_MAX}, {o, 1}}; // refused before a byte is read
    assert_int_equal(journal_append(o->j, 1, 0, 0, parts, 2, NULL, NULL), ERR_TOO_LARGE);
    done(o);
}

static void too_much_pending_is_busy_except_for_the_urgent(void **state) {
    struct io_sim *sim = io_sim_new(7);
    struct owner *o = owner_new(sim);
    o->options.batch_max_bytes = 4096;
    assert_int_equal(owner_open(o), ERR_OK);
    assert_int_equal(owner_publish(o, 8000), ERR_OK); // one alone always may
    assert_int_equal(owner_publish(o, 10), ERR_BUSY);
    assert_int_equal(owner_ack(o, 0), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_int_equal(owner_publish(o, 10), ERR_OK);
    enum err err = ERR_OK;
    int n = 0;
    for (; err == ERR_OK; n++) err = append_text(o->j, "urgent", JOURNAL_URGENT, NULL, NULL);
    assert_int_equal(err, ERR_BUSY);
    assert_true(n > 100);
    done(o);
}

static void a_second_one_is_locked_out(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 8);
    struct journal *other;
    struct error e = {0};
    assert_int_equal(journal_open(&other, io_sim_io(sim), &o->options, owner_replay, o, &e), ERR_LOCKED);
    assert_non_null(strstr(e.text, "in use by another barid"));
    journal_close(o->j);
    assert_int_equal(owner_open(o), ERR_OK);
    done(o);
}

static void below_low_water_publishing_stops_and_urgent_goes_on(void **state) {
    struct io_sim *sim = io_sim_new(9);
    struct owner *o = owner_new(sim);
    o->options.low_water_bytes = 1 << 20;
    io_sim_capacity(sim, 2 << 20);
    assert_int_equal(owner_open(o), ERR_OK);
    assert_false(journal_is_full(o->j));
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        err = owner_publish(o, 3000);
        assert_int_equal(owner_flush(o), ERR_OK);
    }
    assert_int_equal(err, ERR_FULL);
    assert_true(journal_is_full(o->j));
    for (uint32_t i = 0; i < o->count; i++) {
        assert_int_equal(owner_ack(o, i), ERR_OK);
        assert_int_equal(owner_flush(o), ERR_OK);
    }
    io_sim_advance(sim, 200000000);
    assert_false(journal_is_full(o->j)); // acks have made room
    assert_int_equal(owner_publish(o, 3000), ERR_OK);
    done(o);
}

static void a_full_disk_is_an_error_at_append_and_never_at_write(void **state) {
    struct io_sim *sim = io_sim_new(10);
    struct owner *o = owner_new(sim);
    io_sim_capacity(sim, 700 << 10);
    assert_int_equal(owner_open(o), ERR_OK);
    enum err err = ERR_OK;
    for (int i = 0; i < 2000 && err == ERR_OK; i++) {
        err = owner_append(o, OWNER_PUBLISH, JOURNAL_URGENT, 0, 0, 900, NULL, NULL);
        assert_int_equal(owner_batch(o), ERR_OK);
    }
    assert_int_equal(err, ERR_FULL);
    io_sim_capacity(sim, 1 << 20); // somebody cleans up
    assert_int_equal(owner_append(o, OWNER_PUBLISH, JOURNAL_URGENT, 0, 0, 900, NULL, NULL), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    done(o);
}

// A disk smaller than what a segment takes, as far as acks go: they are what makes room.
static void where_a_segment_does_not_fit_a_smaller_one_does(void **state) {
    struct io_sim *sim = io_sim_new(12);
    struct owner *o = owner_new(sim);
    o->options.segment_bytes = 1 << 20;
    io_sim_capacity(sim, 1300 << 10);
    assert_int_equal(owner_open(o), ERR_OK);
    while (journal_appended(o->j) < 1 << 20 && owner_publish(o, 100) == ERR_OK)
        assert_int_equal(owner_batch(o), ERR_OK);
    assert_true(journal_appended(o->j) >= 1 << 20);
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(owner_ack(o, i), ERR_OK);
        assert_int_equal(owner_batch(o), ERR_OK);
    }
    owner_crash(o, true);
    owner_reopen(o);
    done(o);
}

static void a_full_disk_can_be_opened(void **state) {
    struct io_sim *sim = io_sim_new(11);
    struct owner *o = owner_new(sim);
    io_sim_capacity(sim, 400 << 10);
    assert_int_equal(owner_open(o), ERR_OK);
    while (owner_publish(o, 2000) == ERR_OK) assert_int_equal(owner_flush(o), ERR_OK);
    owner_crash(o, true);
    io_sim_capacity(sim, 1);
    owner_reopen(o);
    done(o);
}

static void a_failed_write_or_sync_is_named(void **state) {
    static const enum sim_op ops[] = {SIM_PWRITE, SIM_DATASYNC};
    for (int i = 0; i < 2; i++) {
        struct io_sim *sim;
        struct owner *o = opened(&sim, 12);
        assert_int_equal(owner_publish(o, 10), ERR_OK);
        assert_int_equal(owner_flush(o), ERR_OK);
        assert_int_equal(owner_publish(o, 10), ERR_OK);
        io_sim_fail(sim, ops[i], 1, ERR_IO, false);
        assert_int_equal(owner_batch(o), ERR_IO);
        assert_non_null(strstr(o->error.text, "journal/0000000001.seg"));
        assert_non_null(strstr(o->error.text, err_text(ERR_IO)));
        done(o);
    }
}

static enum err count_kind(void *arg, const struct journal_record *r, struct error *e) {
    (void)e;
    ((int *)arg)[r->kind]++;
    return ERR_OK;
}

static void a_segment_can_be_scanned_in_parts(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 13);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(owner_publish(o, 500), ERR_OK);
        if (i % 7 == 0) assert_int_equal(owner_flush(o), ERR_OK);
    }
    assert_int_equal(owner_flush(o), ERR_OK);
    int counts[256] = {0}, parts = 0;
    uint32_t offset = 0;
    do {
        assert_int_equal(journal_scan_part(o->j, 1, &offset, 2000, count_kind, counts, NULL), ERR_OK);
        parts++;
    } while (offset != 0);
    assert_int_equal(counts[OWNER_PUBLISH], 40);
    assert_true(parts > 5);
    assert_int_equal(journal_scan(o->j, 99, count_kind, counts, NULL), ERR_NOT_FOUND);
    done(o);
}

static void damage_is_noticed_when_a_record_is_read(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 14);
    assert_int_equal(owner_publish(o, 500), ERR_OK);
    assert_int_equal(owner_flush(o), ERR_OK);
    assert_true(io_sim_flip(sim, "journal/0000000001.seg", o->items[0].ref.offset + 100, 3));
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(journal_read(o->j, &o->items[0].ref, &out), ERR_CORRUPT);
    struct journal_ref nowhere = {.segment = 77, .offset = 4136, .length = 4};
    assert_int_equal(journal_read(o->j, &nowhere, &out), ERR_NOT_FOUND);
    buf_release(&out);
    done(o);
}

static void no_more_files_are_kept_open_than_the_bound(void **state) {
    struct io_sim *sim;
    struct owner *o = opened(&sim, 15);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(owner_publish(o, 50000), ERR_OK);
        assert_int_equal(owner_flush(o), ERR_OK);
    }
    struct buf out;
    buf_init(&out, 1 << 20);
    for (uint32_t i = 0; i < o->count; i++) assert_int_equal(journal_read(o->j, &o->items[i].ref, &out), ERR_OK);
    struct io_sim_stats s;
    io_sim_stats(sim, &s);
    assert_true(s.open_descriptors < 140);
    buf_release(&out);
    journal_close(o->j);
    owner_reopen(o);
    io_sim_stats(sim, &s);
    assert_true(s.open_descriptors < 140);
    journal_close(o->j);
    o->j = NULL;
    io_sim_stats(sim, &s);
    assert_int_equal(s.open_descriptors, 0);
    done(o);
}

int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_readable_at_every_stage),
        cmocka_unit_test(a_batch_is_one_write_and_one_sync),
        cmocka_unit_test(everything_is_replayed_in_order_by_the_next_opening),
        cmocka_unit_test(pending_records_are_gone_after_close),
        cmocka_unit_test(a_record_larger_than_a_segment_gets_its_own),
        cmocka_unit_test(too_large_a_record_is_refused),
        cmocka_unit_test(too_much_pending_is_busy_except_for_the_urgent),
        cmocka_unit_test(a_second_one_is_locked_out),
        cmocka_unit_test(below_low_water_publishing_stops_and_urgent_goes_on),
        cmocka_unit_test(a_full_disk_is_an_error_at_append_and_never_at_write),
        cmocka_unit_test(where_a_segment_does_not_fit_a_smaller_one_does),
        cmocka_unit_test(a_full_disk_can_be_opened),
        cmocka_unit_test(a_failed_write_or_sync_is_named),
        cmocka_unit_test(a_segment_can_be_scanned_in_parts),
        cmocka_unit_test(damage_is_noticed_when_a_record_is_read),
        cmocka_unit_test(no_more_files_are_kept_open_than_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
