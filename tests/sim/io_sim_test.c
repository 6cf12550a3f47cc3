// The simulated disk keeps what it promises: synced is kept, unsynced may be anything between, faults strike once.
#include "base/test.h"
#include "sim/io_sim.h"

static int made(struct io *io, const char *path, const void *data, size_t n) {
    int fd = -1;
    assert_int_equal(io->v->open(io, path, IO_READ | IO_WRITE | IO_CREATE, &fd), ERR_OK);
    assert_int_equal(io->v->pwrite(io, fd, data, n, 0), ERR_OK);
    return fd;
}

// How often each of three things happened over many seeds to a write that was not synced.
static void unsynced_sectors_are_kept_lost_or_torn(void **state) {
    int kept = 0, lost = 0, torn = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct io_sim *s = io_sim_new(seed);
        struct io *io = io_sim_io(s);
        uint8_t old[2048], fresh[2048], found[2048];
        memset(old, 1, sizeof old);
        memset(fresh, 2, sizeof fresh);
        int fd = made(io, "f", old, sizeof old);
        assert_int_equal(io->v->datasync(io, fd), ERR_OK);
        assert_int_equal(io->v->sync_dir(io, ""), ERR_OK);
        assert_int_equal(io->v->pwrite(io, fd, fresh, sizeof fresh, 0), ERR_OK);
        io_sim_crash(s);
        assert_true(io_sim_peek(s, "f", 0, found, sizeof found));
        for (int sector = 0; sector < 4; sector++) {
            const uint8_t *at = found + sector * 512;
            bool all_new = memcmp(at, fresh, 512) == 0, all_old = memcmp(at, old, 512) == 0;
            kept += all_new;
            lost += all_old;
            torn += !all_new && !all_old;
            if (!all_new && !all_old) assert_true(at[0] == 2 && at[511] == 1);
        }
        io_sim_free(s);
    }
    assert_true(kept > 200 && lost > 200 && torn > 30);
}

static void synced_bytes_and_names_are_kept(void **state) {
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct io_sim *s = io_sim_new(seed);
        struct io *io = io_sim_io(s);
        uint8_t found[5];
        assert_int_equal(io->v->make_dir(io, "d"), ERR_OK);
        assert_int_equal(io->v->sync_dir(io, ""), ERR_OK);
        int fd = made(io, "d/f", "hello", 5);
        assert_int_equal(io->v->datasync(io, fd), ERR_OK);
        assert_int_equal(io->v->sync_dir(io, "d"), ERR_OK);
        io_sim_crash(s);
        assert_true(io_sim_peek(s, "d/f", 0, found, 5));
        assert_memory_equal(found, "hello", 5);
        assert_int_equal(io->v->pwrite(io, fd, "x", 1, 0), ERR_IO); // the descriptor is gone
        io_sim_free(s);
    }
}

static void unsynced_names_come_and_go_and_a_rename_is_whole(void **state) {
    int created = 0, renamed = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct io_sim *s = io_sim_new(seed);
        struct io *io = io_sim_io(s);
        uint64_t size;
        made(io, "a", "a", 1);
        assert_int_equal(io->v->sync_dir(io, ""), ERR_OK);
        made(io, "b", "b", 1);
        assert_int_equal(io->v->rename(io, "a", "c"), ERR_OK);
        io_sim_crash(s);
        created += io_sim_size(s, "b", &size);
        bool a = io_sim_size(s, "a", &size), c = io_sim_size(s, "c", &size);
        assert_true(a != c);
        renamed += c;
        io_sim_free(s);
    }
    assert_in_range(created, 50, 150);
    assert_in_range(renamed, 50, 150);
}

// After a failed sync the page cache shows the bytes, a later sync succeeds, and a crash loses some of them.
static void a_failed_sync_is_not_made_good_by_the_next(void **state) {
    int lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct io_sim *s = io_sim_new(seed);
        struct io *io = io_sim_io(s);
        uint8_t found[5];
        int fd = made(io, "f", "old..", 5);
        assert_int_equal(io->v->datasync(io, fd), ERR_OK);
        assert_int_equal(io->v->sync_dir(io, ""), ERR_OK);
        assert_int_equal(io->v->pwrite(io, fd, "hello", 5, 0), ERR_OK);
        io_sim_fail(s, SIM_DATASYNC, 1, ERR_IO, false);
        assert_int_equal(io->v->datasync(io, fd), ERR_IO);
        assert_int_equal(io->v->datasync(io, fd), ERR_OK);
        assert_true(io_sim_peek(s, "f", 0, found, 5));
        assert_memory_equal(found, "hello", 5);
        io_sim_crash(s);
        assert_true(io_sim_peek(s, "f", 0, found, 5));
        lost += memcmp(found, "hello", 5) != 0;
        io_sim_free(s);
    }
    assert_in_range(lost, 20, 90);
}

static void faults_strike_the_nth_and_only_that(void **state) {
    struct io_sim *s = io_sim_new(1);
    struct io *io = io_sim_io(s);
    int fd = made(io, "f", "x", 1);
    io_sim_fail(s, SIM_PWRITE, 2, ERR_FULL, false);
    assert_int_equal(io->v->pwrite(io, fd, "x", 1, 0), ERR_OK);
    assert_int_equal(io->v->datasync(io, fd), ERR_OK);
    assert_int_equal(io->v->pwrite(io, fd, "x", 1, 0), ERR_FULL);
    assert_true(io_sim_failed(s));
    assert_int_equal(io->v->pwrite(io, fd, "x", 1, 0), ERR_OK);
    io_sim_fail(s, SIM_ANY, 1, ERR_IO, true);
    assert_int_equal(io->v->datasync(io, fd), ERR_IO);
    assert_int_equal(io->v->pwrite(io, fd, "x", 1, 0), ERR_IO);
    io_sim_fail(s, SIM_ANY, 0, ERR_OK, false);
    io_sim_die_at(s, SIM_ANY, 1);
    assert_int_equal(io->v->datasync(io, fd), ERR_IO);
    assert_true(io_sim_dead(s));
    io_sim_free(s);
}

static void the_disk_has_an_end_and_locks_hold(void **state) {
    struct io_sim *s = io_sim_new(1);
    struct io *io = io_sim_io(s);
    struct io_space space;
    int fd = made(io, "f", "x", 1), other;
    io_sim_capacity(s, 16384);
    assert_int_equal(io->v->allocate(io, fd, 20000), ERR_FULL);
    assert_int_equal(io->v->allocate(io, fd, 12000), ERR_OK);
    assert_int_equal(io->v->space(io, &space), ERR_OK);
    assert_int_equal(space.free_bytes, 4096);
    assert_int_equal(io->v->open(io, "f", IO_READ, &other), ERR_OK);
    assert_int_equal(io->v->lock(io, fd), ERR_OK);
    assert_int_equal(io->v->lock(io, other), ERR_LOCKED);
    assert_int_equal(io->v->close(io, fd), ERR_OK);
    assert_int_equal(io->v->lock(io, other), ERR_OK);
    assert_int_equal(io->v->remove(io, "f"), ERR_OK);
    assert_int_equal(io->v->space(io, &space), ERR_OK);
    assert_int_equal(space.free_bytes, 4096); // still open
    assert_int_equal(io->v->close(io, other), ERR_OK);
    assert_int_equal(io->v->space(io, &space), ERR_OK);
    assert_int_equal(space.free_bytes, 16384);
    io_sim_free(s);
}

static void what_was_cut_off_does_not_come_back(void **state) {
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct io_sim *s = io_sim_new(seed);
        struct io *io = io_sim_io(s);
        uint8_t data[3000], zeros[3000] = {0}, found[3000];
        memset(data, 9, sizeof data);
        int fd = made(io, "f", data, sizeof data);
        assert_int_equal(io->v->truncate(io, fd, 100), ERR_OK);
        assert_int_equal(io->v->allocate(io, fd, 3000), ERR_OK);
        assert_true(io_sim_peek(s, "f", 100, found, 2900));
        assert_memory_equal(found, zeros, 2900);
        assert_int_equal(io->v->datasync(io, fd), ERR_OK);
        assert_int_equal(io->v->sync_dir(io, "."), ERR_OK);
        io_sim_crash(s);
        assert_true(io_sim_peek(s, "f", 100, found, 2900));
        assert_memory_equal(found, zeros, 2900);
        io_sim_free(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsynced_sectors_are_kept_lost_or_torn),
        cmocka_unit_test(synced_bytes_and_names_are_kept),
        cmocka_unit_test(unsynced_names_come_and_go_and_a_rename_is_whole),
        cmocka_unit_test(a_failed_sync_is_not_made_good_by_the_next),
        cmocka_unit_test(faults_strike_the_nth_and_only_that),
        cmocka_unit_test(the_disk_has_an_end_and_locks_hold),
        cmocka_unit_test(what_was_cut_off_does_not_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
