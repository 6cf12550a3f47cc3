// The data store as its users meet it, of either kind, on a real directory, a real PostgreSQL and a real loop.
#include "datastore/rig_test.h"

#include <openssl/evp.h>

static struct rig f;

static void set_up(void **state) { rig_open(&f, *(enum rig_kind *)*state); }

// ---- writing and reading

static void test_a_stream_gets_the_name_of_its_hash(void **state) {
    set_up(state);
    const size_t n = 300001;
    uint8_t *data = rig_picture(n), sha[32];
    struct ds_writer *w = rig_writer(&f, f.d, n);
    assert_int_equal(rig_write(&f, w, data, 100000), ERR_OK);
    assert_int_equal(rig_write(&f, w, data + 100000, 1), ERR_OK);
    assert_int_equal(rig_write(&f, w, data + 100001, n - 100001), ERR_OK);
    assert_int_equal(rig_parts(&f), 1);
    assert_int_equal(rig_finish(&f, w), ERR_OK);
    EVP_Digest(data, n, sha, NULL, EVP_sha256(), NULL);
    assert_memory_equal(f.hash, sha, 32);
    assert_int_equal(f.bytes, n);
    assert_true(rig_is_there(&f, sha));
    assert_int_equal(rig_parts(&f), 0);
    rig_close(&f);
}

static void test_ranges_are_read(void **state) {
    set_up(state);
    const size_t n = 300000;
    uint8_t *data = rig_picture(n);
    rig_store(&f, data, n);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(f.bytes, n);
    assert_int_equal(rig_read(&f, 0, n), n);
    assert_memory_equal(f.got, data, n);
    assert_int_equal(rig_read(&f, 1234, 1000), 1000);
    assert_memory_equal(f.got, data + 1234, 1000);
    assert_int_equal(rig_read(&f, 262000, 1000), 1000);
    assert_memory_equal(f.got, data + 262000, 1000);
    assert_int_equal(rig_read(&f, n - 10, 100), 10);
    assert_memory_equal(f.got, data + n - 10, 10);
    assert_int_equal(rig_read(&f, n, 100), 0);
    ds_reader_free(f.reader);
    rig_close(&f);
}

static void test_many_pieces_make_one_content(void **state) {
    set_up(state);
    const size_t n = 390001, piece = 1500;
    uint8_t *data = rig_picture(n), sha[32];
    struct ds_writer *w = rig_writer(&f, f.d, 4 * n);
    for (int round = 0; round < 4; round++)
        for (size_t at = 0; at < n; at += piece)
            assert_int_equal(rig_write(&f, w, data + at, n - at < piece ? n - at : piece), ERR_OK);
    assert_int_equal(rig_finish(&f, w), ERR_OK);
    assert_int_equal(f.bytes, 4 * n);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_DigestInit_ex(md, EVP_sha256(), NULL);
    for (int round = 0; round < 4; round++) EVP_DigestUpdate(md, data, n);
    EVP_DigestFinal_ex(md, sha, NULL);
    EVP_MD_CTX_free(md);
    assert_memory_equal(f.hash, sha, 32);
    assert_int_equal(rig_read_all_checked(&f, 4 * n, 300000), ERR_OK);
    rig_close(&f);
}

static void test_an_empty_content_is_a_content(void **state) {
    set_up(state);
    assert_int_equal(rig_finish(&f, rig_writer(&f, f.d, 10)), ERR_OK);
    assert_int_equal(f.bytes, 0);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(rig_read(&f, 0, 10), 0);
    ds_reader_free(f.reader);
    rig_close(&f);
}

static void test_what_is_not_there_is_not_found(void **state) {
    set_up(state);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_NOT_FOUND);
    assert_null(f.reader);
    rig_close(&f);
}

static void never(void *arg, enum err err) { fail_msg("called after the abort"); }
static void never_read(void *arg, enum err err, const uint8_t *data, size_t n) { fail_msg("called after the free"); }

// Work that nobody is told of ends some operations later.
static struct datastore_stats settled_stats(void) {
    struct datastore_stats stats = {0};
    for (int i = 0; i < 1000; i++) {
        datastore_stats(f.d, &stats);
        if (stats.writing + stats.reading == 0) break;
        assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    }
    for (int i = 0; i < 5; i++) assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    return stats;
}

static void test_a_content_past_its_bound_is_refused_and_leaves_nothing(void **state) {
    set_up(state);
    struct ds_writer *w = rig_writer(&f, f.d, 300000);
    assert_int_equal(rig_write(&f, w, rig_picture(300000), 300000), ERR_OK);
    assert_int_equal(rig_parts(&f), 1);
    assert_int_equal(rig_write(&f, w, "x", 1), ERR_TOO_LARGE);
    assert_int_equal(rig_finish(&f, w), ERR_TOO_LARGE);
    settled_stats();
    assert_int_equal(rig_parts(&f), 0);
    rig_close(&f);
}

static void test_an_aborted_writer_leaves_nothing(void **state) {
    set_up(state);
    ds_writer_abort(rig_writer(&f, f.d, 100));
    struct ds_writer *w = rig_writer(&f, f.d, 300000);
    assert_int_equal(rig_write(&f, w, rig_picture(300000), 300000), ERR_OK);
    ds_writer_abort(w);
    w = rig_writer(&f, f.d, 300000);
    ds_writer_write(w, rig_picture(300000), 300000, never, NULL);
    ds_writer_abort(w); // in flight
    assert_int_equal(settled_stats().writing, 0);
    assert_int_equal(rig_parts(&f), 0);
    rig_close(&f);
}

static void test_a_reader_may_go_while_it_reads(void **state) {
    set_up(state);
    rig_store(&f, "content", 7);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    ds_reader_read(f.reader, 0, 7, never_read, NULL);
    ds_reader_free(f.reader);
    assert_int_equal(settled_stats().reading, 0);
    rig_close(&f);
}

static void test_uploads_at_once_are_bounded(void **state) {
    set_up(state);
    static struct ds_writer *w[256];
    struct ds_writer *one_more;
    for (size_t i = 0; i < 256; i++) w[i] = rig_writer(&f, f.d, 1);
    assert_int_equal(ds_writer_new(f.d, 1, &one_more), ERR_BUSY);
    for (size_t i = 0; i < 256; i++) ds_writer_abort(w[i]);
    rig_close(&f);
}

static void test_a_store_may_close_under_what_goes_on(void **state) {
    set_up(state);
    rig_store(&f, "content", 7);
    struct ds_writer *w = rig_writer(&f, f.d, 300000), *idle = rig_writer(&f, f.d, 1), *last = rig_writer(&f, f.d, 9);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    ds_writer_write(w, rig_picture(300000), 300000, never, NULL);
    ds_writer_finish(last, NULL, NULL);
    ds_reader_read(f.reader, 0, 7, never_read, NULL);
    datastore_remove(f.d, f.hash, never, NULL);
    datastore_close(f.d);
    f.d = NULL;
    ds_writer_abort(w);
    ds_writer_abort(idle);
    ds_reader_free(f.reader);
    rig_close(&f);
}

// ---- removing

static void test_removing_is_idempotent(void **state) {
    set_up(state);
    rig_store(&f, "the same", 8);
    rig_store(&f, "the same", 8);
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    assert_false(rig_is_there(&f, f.hash));
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_NOT_FOUND);
    rig_store(&f, "the same", 8);
    assert_true(rig_is_there(&f, f.hash));
    rig_close(&f);
}

// ---- reading that checks

static void test_a_changed_content_is_found_before_its_end_is_given(void **state) {
    set_up(state);
    const size_t n = 300000;
    rig_store(&f, rig_picture(n), n);
    assert_int_equal(rig_read_all_checked(&f, n, n), ERR_OK);
    assert_int_equal(rig_read_all_checked(&f, n, 7000), ERR_OK);
    rig_damage(&f, f.hash);
    assert_int_equal(rig_read_all_checked(&f, n, 7000), ERR_CORRUPT);
    assert_int_equal(f.got_n, 0);
    rig_close(&f);
}

// ---- the sweep

static void test_the_sweep_removes_what_nobody_wants(void **state) {
    uint8_t orphan[DATASTORE_HASH];
    set_up(state);
    rig_store(&f, "owned", 5);
    memcpy(f.wanted[f.wanted_n++], f.hash, DATASTORE_HASH);
    rig_store(&f, "orphan", 6);
    memcpy(orphan, f.hash, sizeof orphan);
    rig_make_contents(&f, 301, true);
    rig_make_abandoned(&f);
    struct ds_writer *w = rig_writer(&f, f.d, 300000);
    assert_int_equal(rig_write(&f, w, rig_picture(300000), 300000), ERR_OK);

    rig_sweep(&f, f.d, 36000000);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.asked, 0); // all are too young
    assert_int_equal(f.kept, 303);
    assert_int_equal(f.removed, 0);

    rig_sweep(&f, f.d, 0);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.asked, 303);
    assert_int_equal(f.kept, 151);
    assert_int_equal(f.removed, 152 + 1);
    assert_true(rig_is_there(&f, f.wanted[0]));
    assert_false(rig_is_there(&f, orphan));
    assert_int_equal(rig_parts(&f), 2); // another's, and the one that is being written
    assert_int_equal(rig_finish(&f, w), ERR_OK);
    rig_close(&f);
}

static ds_verdict_fn *late_verdict;
static void *late_batch;

static void ask_later(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict,
                      void *batch) {
    late_verdict = verdict;
    late_batch = batch;
    rig_answered(arg);
}

static void test_one_sweep_at_a_time_and_its_answer_may_be_late(void **state) {
    uint8_t none[1] = {0};
    set_up(state);
    rig_store(&f, "orphan", 6);
    rig_sleep(&f, 500);
    datastore_sweep(f.d, 400, ask_later, rig_on_swept, &f);
    rig_wait(&f, 1); // the question
    datastore_sweep(f.d, 0, ask_later, rig_on_swept, &f);
    rig_wait(&f, 1);
    assert_int_equal(f.err, ERR_BUSY);
    rig_store(&f, "orphan", 6); // it gets an owner in between
    late_verdict(late_batch, none);
    rig_wait(&f, 1);
    assert_int_equal(f.err, ERR_OK);
    assert_true(rig_is_there(&f, f.hash));
    datastore_sweep(f.d, 0, ask_later, rig_on_swept, &f);
    rig_wait(&f, 1);
    rig_close(&f); // closed while a question is open
}

static enum rig_kind files = RIG_FILES, postgres = RIG_POSTGRES;

#define BOTH(test)                                                                                                     \
    {#test " in files", test, NULL, NULL, &files}, { #test " in PostgreSQL", test, NULL, NULL, &postgres }

int main(void) {
    const struct CMUnitTest tests[] = {
        BOTH(test_a_stream_gets_the_name_of_its_hash),
        BOTH(test_ranges_are_read),
        BOTH(test_many_pieces_make_one_content),
        BOTH(test_an_empty_content_is_a_content),
        BOTH(test_what_is_not_there_is_not_found),
        BOTH(test_a_content_past_its_bound_is_refused_and_leaves_nothing),
        BOTH(test_an_aborted_writer_leaves_nothing),
        BOTH(test_a_reader_may_go_while_it_reads),
        BOTH(test_uploads_at_once_are_bounded),
        BOTH(test_a_store_may_close_under_what_goes_on),
        BOTH(test_removing_is_idempotent),
        BOTH(test_a_changed_content_is_found_before_its_end_is_given),
        BOTH(test_the_sweep_removes_what_nobody_wants),
        BOTH(test_one_sweep_at_a_time_and_its_answer_may_be_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
