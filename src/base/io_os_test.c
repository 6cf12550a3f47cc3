// The real io on a real directory: what is written is read, what is locked is locked, errors have their names.
#include "base/io.h"
#include "base/test.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char root[] = "/tmp/barid-io-test-XXXXXX";
static struct io *io;

static int open_root(void **state) {
    (void)state;
    char path[sizeof root + 16];
    if (mkdtemp(root) == NULL) return -1;
    snprintf(path, sizeof path, "%s/deep/data", root);
    struct error e;
    return io_os_new(&io, path, &e) == ERR_OK ? 0 : -1;
}

static void remove_entry(void *arg, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s%s", (const char *)arg, name);
    char below[520];
    snprintf(below, sizeof below, "%s/", path);
    io->v->list(io, path, remove_entry, below);
    io->v->remove(io, path);
}

static int remove_root(void **state) {
    (void)state;
    char path[sizeof root + 16];
    io->v->list(io, "", remove_entry, (char[]){""});
    io_os_free(io);
    snprintf(path, sizeof path, "%s/deep/data", root);
    rmdir(path);
    snprintf(path, sizeof path, "%s/deep", root);
    rmdir(path);
    return rmdir(root);
}

static int open_new(const char *path) {
    int fd = -1;
    assert_int_equal(io->v->open(io, path, IO_READ | IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &fd), ERR_OK);
    return fd;
}

static void what_is_written_is_read(void **state) {
    (void)state;
    static uint8_t out[300000], in[300000];
    size_t got;
    uint64_t size;
    int fd = open_new("round-trip");
    io->v->random(io, out, sizeof out);
    assert_int_equal(io->v->pwrite(io, fd, out, sizeof out, 10), ERR_OK);
    assert_int_equal(io->v->datasync(io, fd), ERR_OK);
    assert_int_equal(io->v->size(io, fd, &size), ERR_OK);
    assert_int_equal(size, sizeof out + 10);
    assert_int_equal(io->v->pread(io, fd, in, sizeof in, 10, &got), ERR_OK);
    assert_int_equal(got, sizeof in);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(io->v->pread(io, fd, in, sizeof in, 20, &got), ERR_OK); // ends 10 bytes early
    assert_int_equal(got, sizeof in - 10);
    assert_int_equal(io->v->pread(io, fd, in, 1, size, &got), ERR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(io->v->close(io, fd), ERR_OK);
}

static void allocating_sets_the_size_and_reads_as_zero(void **state) {
    (void)state;
    uint8_t in[8];
    size_t got;
    uint64_t size;
    int fd = open_new("allocated");
    assert_int_equal(io->v->allocate(io, fd, 1 << 20), ERR_OK);
    assert_int_equal(io->v->size(io, fd, &size), ERR_OK);
    assert_int_equal(size, 1 << 20);
    assert_int_equal(io->v->pread(io, fd, in, sizeof in, (1 << 20) - 8, &got), ERR_OK);
    assert_memory_equal(in, "\0\0\0\0\0\0\0\0", 8);
    assert_int_equal(io->v->truncate(io, fd, 100), ERR_OK);
    assert_int_equal(io->v->size(io, fd, &size), ERR_OK);
    assert_int_equal(size, 100);
    io->v->close(io, fd);
}

static void opening_tells_missing_from_present(void **state) {
    (void)state;
    int fd;
    assert_int_equal(io->v->open(io, "nowhere", IO_READ, &fd), ERR_NOT_FOUND);
    assert_int_equal(io->v->open(io, "no/such/dir/file", IO_WRITE | IO_CREATE, &fd), ERR_NOT_FOUND);
    fd = open_new("once");
    io->v->close(io, fd);
    assert_int_equal(io->v->open(io, "once", IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &fd), ERR_CONFLICT);
    assert_int_equal(io->v->open(io, "once", IO_WRITE | IO_CREATE, &fd), ERR_OK);
    assert_int_equal(io->v->close(io, fd), ERR_OK);
    assert_int_equal(io->v->remove(io, "nowhere"), ERR_NOT_FOUND);
    assert_int_equal(io->v->rename(io, "nowhere", "somewhere"), ERR_NOT_FOUND);
    assert_int_equal(io->v->sync_dir(io, "nowhere"), ERR_NOT_FOUND);
}

static void a_lock_keeps_others_out_until_closed(void **state) {
    (void)state;
    int first = open_new("lock"), second;
    assert_int_equal(io->v->open(io, "lock", IO_READ, &second), ERR_OK);
    assert_int_equal(io->v->lock(io, first), ERR_OK);
    assert_int_equal(io->v->lock(io, second), ERR_LOCKED);
    io->v->close(io, first);
    assert_int_equal(io->v->lock(io, second), ERR_OK);
    io->v->close(io, second);
}

struct names {
    int count;
    bool a, b;
};

static void note_name(void *arg, const char *name) {
    struct names *n = arg;
    n->count++;
    n->a |= strcmp(name, "a") == 0;
    n->b |= strcmp(name, "b") == 0;
}

static void directories_are_made_listed_and_renamed_in(void **state) {
    (void)state;
    struct names seen = {0};
    assert_int_equal(io->v->make_dir(io, "x/y/z"), ERR_OK);
    assert_int_equal(io->v->make_dir(io, "x/y/z"), ERR_OK);
    io->v->close(io, open_new("x/y/z/a"));
    io->v->close(io, open_new("x/y/z/c"));
    assert_int_equal(io->v->rename(io, "x/y/z/c", "x/y/z/b"), ERR_OK);
    assert_int_equal(io->v->sync_dir(io, "x/y/z"), ERR_OK);
    assert_int_equal(io->v->list(io, "x/y/z", note_name, &seen), ERR_OK);
    assert_int_equal(seen.count, 2);
    assert_true(seen.a && seen.b);
    assert_int_equal(io->v->make_dir(io, "x/y/z/a"), ERR_CONFLICT);
    assert_int_equal(io->v->remove(io, "x/y/z/a"), ERR_OK);
    assert_int_equal(io->v->list(io, "nowhere", note_name, &seen), ERR_NOT_FOUND);
}

static void space_is_plausible(void **state) {
    (void)state;
    struct io_space space;
    assert_int_equal(io->v->space(io, &space), ERR_OK);
    assert_true(space.total_bytes > 0 && space.free_bytes <= space.total_bytes);
}

static void a_root_that_is_a_file_is_refused(void **state) {
    (void)state;
    char path[sizeof root + 32];
    struct io *other;
    struct error e;
    io->v->close(io, open_new("a-file"));
    snprintf(path, sizeof path, "%s/deep/data/a-file", root);
    assert_int_not_equal(io_os_new(&other, path, &e), ERR_OK);
    assert_non_null(strstr(e.text, "a-file"));
    assert_int_equal(io_os_new(&other, "", &e), ERR_INVALID);
}

static void random_bytes_do_not_repeat(void **state) {
    (void)state;
    static uint64_t seen[20000];
    for (size_t i = 0; i < 20000; i++) seen[i] = io_random_u64(io);
    for (size_t i = 0; i < 20000; i += 97)
        for (size_t j = 0; j < 20000; j++) assert_true(i == j || seen[i] != seen[j]);
}

static void a_forked_child_draws_its_own_random_bytes(void **state) {
    (void)state;
    uint64_t parent, child;
    int ends[2];
    io_random_u64(io); // fills the pool, which the child inherits
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child = io_random_u64(io);
        _exit(write(ends[1], &child, sizeof child) == sizeof child ? 0 : 1);
    }
    parent = io_random_u64(io);
    assert_int_equal(read(ends[0], &child, sizeof child), sizeof child);
    waitpid(pid, NULL, 0);
    close(ends[0]);
    close(ends[1]);
    assert_true(parent != child);
}

static void random_below_is_even(void **state) {
    (void)state;
    int hits[6] = {0};
    for (int i = 0; i < 60000; i++) hits[io_random_below(io, 6)]++;
    for (int i = 0; i < 6; i++) assert_in_range(hits[i], 9400, 10600);
    for (int i = 0; i < 100; i++) assert_int_equal(io_random_below(io, 1), 0);
}

static void clocks_go_forward(void **state) {
    (void)state;
    uint64_t last = io_monotonic_ns(io);
    for (int i = 0; i < 1000; i++) {
        uint64_t now = io_monotonic_ns(io);
        assert_true(now >= last);
        last = now;
    }
    assert_true(io_wall_ms(io) > 1700000000000);
}

#define SLEPT_S 100000

// In a time namespace a machine may have been asleep for a day. False: this one has no such thing, or not for us.
static bool fall_asleep(void) {
    static const char offset[] = "boottime 100000 0";
    if (unshare(CLONE_NEWTIME) != 0) return false;
    int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, offset, strlen(offset)) == (ssize_t)strlen(offset);
    if (fd >= 0) close(fd);
    return ok;
}

static int status_of(pid_t child) {
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int slept(void) {
    struct timespec awake;
    clock_gettime(CLOCK_MONOTONIC, &awake);
    return io_monotonic_ns(io) / 1000000000 - (uint64_t)awake.tv_sec >= SLEPT_S ? 0 : 1;
}

// The namespace is that of the children of whoever makes it.
static void the_clock_goes_on_while_the_machine_sleeps(void **state) {
    (void)state;
    pid_t outer = fork();
    if (outer == 0) {
        if (!fall_asleep()) _exit(77);
        pid_t inner = fork();
        if (inner == 0) _exit(slept());
        _exit(inner > 0 ? status_of(inner) : 77);
    }
    assert_true(outer > 0);
    int status = status_of(outer);
    if (status == 77) skip();
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(allocating_sets_the_size_and_reads_as_zero),
        cmocka_unit_test(opening_tells_missing_from_present),
        cmocka_unit_test(a_lock_keeps_others_out_until_closed),
        cmocka_unit_test(directories_are_made_listed_and_renamed_in),
        cmocka_unit_test(space_is_plausible),
        cmocka_unit_test(a_root_that_is_a_file_is_refused),
        cmocka_unit_test(random_bytes_do_not_repeat),
        cmocka_unit_test(a_forked_child_draws_its_own_random_bytes),
        cmocka_unit_test(random_below_is_even),
        cmocka_unit_test(clocks_go_forward),
        cmocka_unit_test(the_clock_goes_on_while_the_machine_sleeps),
    };
    return cmocka_run_group_tests(tests, open_root, remove_root);
}
