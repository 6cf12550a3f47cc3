// What only files do: a disk that fills, readers that keep what was removed, names taken while they are given.
#include "datastore/rig_test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct rig f;

static void test_uploads_leave_the_last_of_the_disk_alone(void **state) {
    rig_open(&f, RIG_FILES);
    datastore_low_water(f.d, UINT64_MAX);
    struct ds_writer *w = rig_writer(&f, f.d, 100);
    assert_int_equal(rig_write(&f, w, "x", 1), ERR_FULL);
    assert_int_equal(rig_parts(&f), 0);
    ds_writer_abort(w);
    datastore_low_water(f.d, 1);
    rig_store(&f, "x", 1);
    rig_close(&f);
}

static void test_removing_does_not_break_a_reader(void **state) {
    rig_open(&f, RIG_FILES);
    const size_t n = 200000;
    uint8_t *data = rig_picture(n);
    rig_store(&f, data, n);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    assert_false(rig_is_there(&f, f.hash));
    assert_int_equal(rig_read(&f, 0, n), n);
    assert_memory_equal(f.got, data, n);
    ds_reader_free(f.reader);
    rig_close(&f);
}

static void test_the_same_content_twice_is_one_file(void **state) {
    uint8_t first[DATASTORE_HASH];
    struct stat st;
    rig_open(&f, RIG_FILES);
    rig_store(&f, "the same", 8);
    memcpy(first, f.hash, sizeof first);
    rig_store(&f, "the same", 8);
    assert_memory_equal(first, f.hash, sizeof first);
    assert_int_equal(stat(rig_path(&f, first), &st), 0);
    assert_int_equal(st.st_nlink, 1);
    rig_close(&f);
}

static void test_what_is_uploaded_again_while_it_is_removed_stays(void **state) {
    rig_open(&f, RIG_FILES);
    rig_store(&f, "again", 5);
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    for (int i = 0; i < 20; i++) {
        struct ds_writer *w = rig_writer(&f, f.d, 5);
        assert_int_equal(rig_write(&f, w, "again", 5), ERR_OK);
        ds_writer_finish(w, rig_on_finished, &f);
        while (!rig_is_there(&f, f.hash)) usleep(100); // it has its name, and nobody was told yet
        datastore_remove(f.d, f.hash, rig_on_done, &f);
        if (i % 2) usleep(2000); // the removal comes first, or the telling
        rig_wait(&f, 2);
        assert_true(rig_is_there(&f, f.hash));
        assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK); // nothing of that lingers
        assert_false(rig_is_there(&f, f.hash));
    }
    rig_close(&f);
}

static void test_a_file_that_was_cut_is_found(void **state) {
    rig_open(&f, RIG_FILES);
    const size_t n = 300000;
    rig_store(&f, rig_picture(n), n);
    assert_int_equal(truncate(rig_path(&f, f.hash), 100), 0);
    assert_int_equal(rig_read_all_checked(&f, n, n), ERR_CORRUPT);
    rig_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uploads_leave_the_last_of_the_disk_alone),
        cmocka_unit_test(test_removing_does_not_break_a_reader),
        cmocka_unit_test(test_the_same_content_twice_is_one_file),
        cmocka_unit_test(test_what_is_uploaded_again_while_it_is_removed_stays),
        cmocka_unit_test(test_a_file_that_was_cut_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
