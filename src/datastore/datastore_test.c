// The data store as its users meet it, on a real directory and a real loop.
#include "datastore/datastore.h"

#include "base/hex.h"
#include "base/loop.h"
#include "base/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 30000

struct fixture {
    char dir[64];
    struct loop *loop;
    struct datastore *d;
    struct loop_timer patience;
    int waiting; // answers
    enum err err;
    uint8_t hash[DATASTORE_HASH];
    uint64_t bytes, kept, removed;
    struct ds_reader *reader;
    uint8_t got[400000];
    size_t got_n;
    uint8_t wanted[1000][DATASTORE_HASH];
    size_t wanted_n, asked;
};

static void impatient(struct loop_timer *t) { fail_msg("nothing came for %d ms", PATIENCE_MS); }

static void set_up(struct fixture *f) {
    struct error e = {0};
    memset(f, 0, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/barid-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(loop_new(&f->loop, &e), ERR_OK);
    if (datastore_open(&f->d, f->loop, f->dir, &e)) fail_msg("%s", e.text);
    datastore_low_water(f->d, 1);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

static void tear_down(struct fixture *f) {
    datastore_close(f->d);
    loop_free(f->loop);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void wait_answers(struct fixture *f, int n) {
    f->waiting = n;
    f->patience.fn = impatient;
    loop_timer_start(f->loop, &f->patience, PATIENCE_MS);
    loop_run(f->loop);
    loop_timer_stop(f->loop, &f->patience);
}

static void answered(struct fixture *f) {
    if (--f->waiting == 0) loop_stop(f->loop);
}

static void on_done(void *arg, enum err err) {
    struct fixture *f = arg;
    f->err = err;
    answered(f);
}

static void on_finished(void *arg, enum err err, const uint8_t hash[DATASTORE_HASH], uint64_t bytes) {
    struct fixture *f = arg;
    f->err = err;
    memcpy(f->hash, hash, DATASTORE_HASH);
    f->bytes = bytes;
    answered(f);
}

static enum err write_part(struct fixture *f, struct ds_writer *w, const void *data, size_t n) {
    ds_writer_write(w, data, n, on_done, f);
    wait_answers(f, 1);
    return f->err;
}

static enum err finish(struct fixture *f, struct ds_writer *w) {
    ds_writer_finish(w, on_finished, f);
    wait_answers(f, 1);
    return f->err;
}

static struct ds_writer *new_writer(struct fixture *f, uint64_t max) {
    struct ds_writer *w;
    assert_int_equal(ds_writer_new(f->d, max, &w), ERR_OK);
    return w;
}

static void store(struct fixture *f, const void *data, size_t n) {
    struct ds_writer *w = new_writer(f, n);
    assert_int_equal(write_part(f, w, data, n), ERR_OK);
    assert_int_equal(finish(f, w), ERR_OK);
}

static enum err take_out(struct fixture *f, const uint8_t hash[DATASTORE_HASH]) {
    datastore_remove(f->d, hash, on_done, f);
    wait_answers(f, 1);
    return f->err;
}

static void on_opened(void *arg, enum err err, struct ds_reader *r, uint64_t bytes) {
    struct fixture *f = arg;
    f->err = err;
    f->reader = r;
    f->bytes = bytes;
    answered(f);
}

static enum err open_reader(struct fixture *f, const uint8_t hash[DATASTORE_HASH]) {
    datastore_read(f->d, hash, on_opened, f);
    wait_answers(f, 1);
    return f->err;
}

static void on_read(void *arg, enum err err, const uint8_t *data, size_t n) {
    struct fixture *f = arg;
    f->err = err;
    if (n) memcpy(f->got, data, n);
    f->got_n = n;
    answered(f);
}

static size_t read_range(struct fixture *f, uint64_t offset, size_t max) {
    ds_reader_read(f->reader, offset, max, on_read, f);
    wait_answers(f, 1);
    assert_int_equal(f->err, ERR_OK);
    return f->got_n;
}

static char *path_of(struct fixture *f, const uint8_t hash[DATASTORE_HASH]) {
    static char path[256];
    char hex[2 * DATASTORE_HASH + 1];
    hex_encode(hash, DATASTORE_HASH, hex);
    snprintf(path, sizeof path, "%s/%.2s/%s", f->dir, hex, hex);
    return path;
}

static bool is_there(struct fixture *f, const uint8_t hash[DATASTORE_HASH]) {
    return access(path_of(f, hash), F_OK) == 0;
}

static size_t parts(struct fixture *f) {
    char path[128];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/tmp", f->dir);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static uint8_t *picture(size_t n) {
    static uint8_t data[400000];
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = (uint8_t)(x >> 24);
    }
    return data;
}

// ---- writing and reading

static void test_a_stream_gets_the_name_of_its_hash(void **state) {
    static struct fixture f;
    set_up(&f);
    const size_t n = 300001;
    uint8_t *data = picture(n), sha[32];
    struct ds_writer *w = new_writer(&f, n);
    assert_int_equal(write_part(&f, w, data, 100000), ERR_OK);
    assert_int_equal(write_part(&f, w, data + 100000, 1), ERR_OK);
    assert_int_equal(parts(&f), 1);
    assert_int_equal(write_part(&f, w, data + 100001, n - 100001), ERR_OK);
    assert_int_equal(finish(&f, w), ERR_OK);
    EVP_Digest(data, n, sha, NULL, EVP_sha256(), NULL);
    assert_memory_equal(f.hash, sha, 32);
    assert_int_equal(f.bytes, n);
    assert_true(is_there(&f, sha));
    assert_int_equal(parts(&f), 0);
    tear_down(&f);
}

static void test_ranges_are_read(void **state) {
    static struct fixture f;
    set_up(&f);
    const size_t n = 300000;
    uint8_t *data = picture(n);
    store(&f, data, n);
    assert_int_equal(open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(f.bytes, n);
    assert_int_equal(read_range(&f, 0, n), n);
    assert_memory_equal(f.got, data, n);
    assert_int_equal(read_range(&f, 1234, 1000), 1000);
    assert_memory_equal(f.got, data + 1234, 1000);
    assert_int_equal(read_range(&f, n - 10, 100), 10);
    assert_memory_equal(f.got, data + n - 10, 10);
    assert_int_equal(read_range(&f, n, 100), 0);
    ds_reader_free(f.reader);
    tear_down(&f);
}

static void test_an_empty_content_is_a_content(void **state) {
    static struct fixture f;
    set_up(&f);
    assert_int_equal(finish(&f, new_writer(&f, 10)), ERR_OK);
    assert_int_equal(f.bytes, 0);
    assert_int_equal(open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(read_range(&f, 0, 10), 0);
    ds_reader_free(f.reader);
    tear_down(&f);
}

static void test_what_is_not_there_is_not_found(void **state) {
    static struct fixture f;
    set_up(&f);
    assert_int_equal(open_reader(&f, f.hash), ERR_NOT_FOUND);
    assert_null(f.reader);
    tear_down(&f);
}

static void test_a_content_past_its_bound_is_refused_and_leaves_nothing(void **state) {
    static struct fixture f;
    set_up(&f);
    struct ds_writer *w = new_writer(&f, 100);
    assert_int_equal(write_part(&f, w, picture(100), 100), ERR_OK);
    assert_int_equal(write_part(&f, w, "x", 1), ERR_TOO_LARGE);
    assert_int_equal(parts(&f), 0);
    assert_int_equal(finish(&f, w), ERR_TOO_LARGE);
    tear_down(&f);
}

static void test_uploads_leave_the_last_of_the_disk_alone(void **state) {
    static struct fixture f;
    set_up(&f);
    datastore_low_water(f.d, UINT64_MAX);
    struct ds_writer *w = new_writer(&f, 100);
    assert_int_equal(write_part(&f, w, "x", 1), ERR_FULL);
    assert_int_equal(parts(&f), 0);
    ds_writer_abort(w);
    datastore_low_water(f.d, 1);
    store(&f, "x", 1);
    tear_down(&f);
}

// Disk work that nobody is told of ends some operations later.
static struct datastore_stats settled_stats(struct fixture *f) {
    struct datastore_stats stats = {0};
    for (int i = 0; i < 1000; i++) {
        datastore_stats(f->d, &stats);
        if (stats.writing + stats.reading == 0) break;
        assert_int_equal(take_out(f, f->hash), ERR_OK);
    }
    return stats;
}

static void never(void *arg, enum err err) { fail_msg("called after the abort"); }

static void test_an_aborted_writer_leaves_nothing(void **state) {
    static struct fixture f;
    set_up(&f);
    ds_writer_abort(new_writer(&f, 100));
    struct ds_writer *w = new_writer(&f, 100);
    assert_int_equal(write_part(&f, w, "abc", 3), ERR_OK);
    ds_writer_abort(w);
    w = new_writer(&f, 100);
    ds_writer_write(w, "abc", 3, never, NULL);
    ds_writer_abort(w); // in flight
    struct datastore_stats stats = settled_stats(&f);
    assert_int_equal(stats.writing, 0);
    assert_true(stats.free_bytes > 0);
    assert_int_equal(parts(&f), 0);
    tear_down(&f);
}

static void never_read(void *arg, enum err err, const uint8_t *data, size_t n) { fail_msg("called after the free"); }

static void test_a_reader_may_go_while_it_reads(void **state) {
    static struct fixture f;
    set_up(&f);
    store(&f, "content", 7);
    assert_int_equal(open_reader(&f, f.hash), ERR_OK);
    ds_reader_read(f.reader, 0, 7, never_read, NULL);
    ds_reader_free(f.reader);
    assert_int_equal(settled_stats(&f).reading, 0);
    tear_down(&f);
}

// ---- removing

static void test_removing_is_idempotent_and_does_not_break_a_reader(void **state) {
    static struct fixture f;
    set_up(&f);
    const size_t n = 200000;
    uint8_t *data = picture(n);
    store(&f, data, n);
    assert_int_equal(open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(take_out(&f, f.hash), ERR_OK);
    assert_false(is_there(&f, f.hash));
    assert_int_equal(take_out(&f, f.hash), ERR_OK);
    assert_int_equal(read_range(&f, 0, n), n);
    assert_memory_equal(f.got, data, n);
    ds_reader_free(f.reader);
    f.reader = NULL;
    assert_int_equal(open_reader(&f, f.hash), ERR_NOT_FOUND);
    tear_down(&f);
}

static void test_the_same_content_twice_is_one_file(void **state) {
    static struct fixture f;
    uint8_t first[DATASTORE_HASH];
    struct stat st;
    set_up(&f);
    store(&f, "the same", 8);
    memcpy(first, f.hash, sizeof first);
    store(&f, "the same", 8);
    assert_memory_equal(first, f.hash, sizeof first);
    assert_int_equal(stat(path_of(&f, first), &st), 0);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(take_out(&f, first), ERR_OK);
    assert_false(is_there(&f, first));
    tear_down(&f);
}

static void test_what_is_uploaded_again_while_it_is_removed_stays(void **state) {
    static struct fixture f;
    set_up(&f);
    store(&f, "again", 5);
    assert_int_equal(take_out(&f, f.hash), ERR_OK);
    for (int i = 0; i < 20; i++) {
        struct ds_writer *w = new_writer(&f, 5);
        assert_int_equal(write_part(&f, w, "again", 5), ERR_OK);
        ds_writer_finish(w, on_finished, &f);
        while (!is_there(&f, f.hash)) usleep(100); // it has its name, and nobody was told yet
        datastore_remove(f.d, f.hash, on_done, &f);
        if (i % 2) usleep(2000); // the removal comes first, or the telling
        wait_answers(&f, 2);
        assert_true(is_there(&f, f.hash));
        assert_int_equal(take_out(&f, f.hash), ERR_OK); // nothing of that lingers
        assert_false(is_there(&f, f.hash));
    }
    tear_down(&f);
}

// ---- reading that checks

static enum err read_all_checked(struct fixture *f, size_t n, size_t step) {
    assert_int_equal(open_reader(f, f->hash), ERR_OK);
    ds_reader_verify(f->reader);
    f->err = ERR_OK;
    for (size_t at = 0; at < n && f->err == ERR_OK; at += f->got_n) {
        ds_reader_read(f->reader, at, step, on_read, f);
        wait_answers(f, 1);
    }
    ds_reader_free(f->reader);
    return f->err;
}

static void test_a_changed_content_is_found_before_its_end_is_given(void **state) {
    static struct fixture f;
    set_up(&f);
    const size_t n = 300000;
    store(&f, picture(n), n);
    assert_int_equal(read_all_checked(&f, n, n), ERR_OK);
    assert_int_equal(read_all_checked(&f, n, 7000), ERR_OK);
    int fd = open(path_of(&f, f.hash), O_WRONLY);
    assert_int_equal(pwrite(fd, "\0\0\0\0", 4, 1000), 4);
    close(fd);
    assert_int_equal(read_all_checked(&f, n, 7000), ERR_CORRUPT);
    assert_int_equal(f.got_n, 0);
    assert_int_equal(truncate(path_of(&f, f.hash), 100), 0);
    assert_int_equal(read_all_checked(&f, n, n), ERR_CORRUPT);
    tear_down(&f);
}

// ---- the sweep

static void on_swept(void *arg, enum err err, uint64_t kept, uint64_t removed) {
    struct fixture *f = arg;
    f->err = err;
    f->kept = kept;
    f->removed = removed;
    answered(f);
}

static void ask(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict, void *batch) {
    struct fixture *f = arg;
    uint8_t wanted[1024] = {0};
    assert_true(loop_on_thread(f->loop) && n > 0 && n <= sizeof wanted);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < f->wanted_n; j++)
            if (memcmp(hashes[i], f->wanted[j], DATASTORE_HASH) == 0) wanted[i] = 1;
    f->asked += n;
    verdict(batch, wanted);
}

static void sweep(struct fixture *f, uint64_t min_age_ms) {
    f->asked = 0;
    datastore_sweep(f->d, min_age_ms, ask, on_swept, f);
    wait_answers(f, 1);
}

static void make_file(struct fixture *f, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

// Contents put there by hand, under one first byte, so that one directory needs several batches.
static void make_contents(struct fixture *f, size_t n, bool keep_odd) {
    for (size_t i = 0; i < n; i++) {
        uint8_t hash[DATASTORE_HASH] = {0x5a, (uint8_t)(i >> 8), (uint8_t)i};
        fclose(fopen(path_of(f, hash), "w"));
        if (keep_odd && i % 2) memcpy(f->wanted[f->wanted_n++], hash, sizeof hash);
    }
}

static void test_the_sweep_removes_what_nobody_wants(void **state) {
    static struct fixture f;
    uint8_t orphan[DATASTORE_HASH];
    set_up(&f);
    store(&f, "owned", 5);
    memcpy(f.wanted[f.wanted_n++], f.hash, DATASTORE_HASH);
    store(&f, "orphan", 6);
    memcpy(orphan, f.hash, sizeof orphan);
    make_contents(&f, 301, true);
    make_file(&f, "tmp/0123456789abcdef0123456789abcdef.part");
    make_file(&f, "tmp/not-ours.txt");
    struct ds_writer *w = new_writer(&f, 100);
    assert_int_equal(write_part(&f, w, "under way", 9), ERR_OK);

    sweep(&f, 3600000);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.asked, 0); // all are too young
    assert_int_equal(f.removed, 0);

    sweep(&f, 0);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.asked, 303);
    assert_int_equal(f.kept, 151);
    assert_int_equal(f.removed, 152 + 1);
    assert_true(is_there(&f, f.wanted[0]));
    assert_false(is_there(&f, orphan));
    assert_int_equal(parts(&f), 2); // the foreign file, and the one that is being written
    assert_int_equal(finish(&f, w), ERR_OK);
    tear_down(&f);
}

static ds_verdict_fn *late_verdict;
static void *late_batch;

static void ask_later(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict,
                      void *batch) {
    struct fixture *f = arg;
    late_verdict = verdict;
    late_batch = batch;
    answered(f);
}

static void test_one_sweep_at_a_time_and_its_answer_may_be_late(void **state) {
    static struct fixture f;
    static const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    uint8_t none[1] = {0};
    set_up(&f);
    store(&f, "orphan", 6);
    assert_int_equal(utimensat(AT_FDCWD, path_of(&f, f.hash), long_ago, 0), 0);
    datastore_sweep(f.d, 60000, ask_later, on_swept, &f);
    wait_answers(&f, 1); // the question
    datastore_sweep(f.d, 0, ask_later, on_swept, &f);
    wait_answers(&f, 1);
    assert_int_equal(f.err, ERR_BUSY);
    store(&f, "orphan", 6); // it gets an owner in between
    late_verdict(late_batch, none);
    wait_answers(&f, 1);
    assert_int_equal(f.err, ERR_OK);
    assert_true(is_there(&f, f.hash));
    datastore_sweep(f.d, 0, ask_later, on_swept, &f);
    wait_answers(&f, 1);
    tear_down(&f); // closed while a question is open
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stream_gets_the_name_of_its_hash),
        cmocka_unit_test(test_ranges_are_read),
        cmocka_unit_test(test_an_empty_content_is_a_content),
        cmocka_unit_test(test_what_is_not_there_is_not_found),
        cmocka_unit_test(test_a_content_past_its_bound_is_refused_and_leaves_nothing),
        cmocka_unit_test(test_uploads_leave_the_last_of_the_disk_alone),
        cmocka_unit_test(test_an_aborted_writer_leaves_nothing),
        cmocka_unit_test(test_a_reader_may_go_while_it_reads),
        cmocka_unit_test(test_removing_is_idempotent_and_does_not_break_a_reader),
        cmocka_unit_test(test_the_same_content_twice_is_one_file),
        cmocka_unit_test(test_what_is_uploaded_again_while_it_is_removed_stays),
        cmocka_unit_test(test_a_changed_content_is_found_before_its_end_is_given),
        cmocka_unit_test(test_the_sweep_removes_what_nobody_wants),
        cmocka_unit_test(test_one_sweep_at_a_time_and_its_answer_may_be_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
