// The real io: clock, randomness and disk of the machine we run on.
//
// All paths are looked up from a descriptor of the root directory, so nothing depends on the working directory.
// Absolute paths and ".." are a programmer's error: names that people choose never become paths.
#include "base/io.h"

#include "base/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define FILE_MODE 0600
#define DIR_MODE  0700
#define PATH_SIZE 4096

struct io_os {
    struct io io;
    int root;
    int64_t clock_shift_ms; // BARID_CLOCK_SHIFT=7200: a clock that is two hours ahead, for tests
};

static struct io_os *os_of(struct io *io) { return (struct io_os *)io; }

static enum err from_errno(int code) {
    switch (code) {
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_CONFLICT;
    case ENOSPC:
    case EDQUOT: return ERR_FULL;
    case EMFILE:
    case ENFILE: return ERR_LIMIT;
    case EACCES:
    case EPERM:
    case EROFS: return ERR_FORBIDDEN;
    case ENOMEM: return ERR_NOMEM;
    default: return ERR_IO;
    }
}

static enum err result_of(int rc) { return rc == 0 ? ERR_OK : from_errno(errno); }

// "" and "." both name the root.
static const char *checked(const char *path) {
    ASSERT(path[0] != '/');
    for (const char *at = path; at != NULL; at = strchr(at, '/')) {
        if (*at == '/') at++;
        ASSERT(!(at[0] == '.' && at[1] == '.' && (at[2] == 0 || at[2] == '/')));
    }
    return path[0] == 0 ? "." : path;
}

// --- clock ---

// Not CLOCK_MONOTONIC, which stands still while the machine is suspended: a lease ends meanwhile, and somebody else has
// what it was for. (The loop's timers do stand still, so nobody may take the coming of one for the time.) A virtual
// machine that is stopped from outside without being told cannot know.
static uint64_t os_monotonic_ns(struct io *io) {
    (void)io;
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int64_t os_wall_ms(struct io *io) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + os_of(io)->clock_shift_ms;
}

// --- randomness: a small pool a thread, thrown away in a forked child, wiped as it is used ---

static atomic_uint fork_generation;

static _Thread_local struct {
    uint8_t bytes[512];
    size_t left;
    unsigned generation;
} pool;

static void forked(void) { atomic_fetch_add(&fork_generation, 1); }

static void watch_forks(void) { pthread_atfork(NULL, NULL, forked); }

static void from_kernel(void *out, size_t n) {
    uint8_t *at = out;
    while (n > 0) {
        ssize_t got = getrandom(at, n, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) die("no random bytes from the kernel: %s", strerror(errno));
        at += got;
        n -= (size_t)got;
    }
}

static void os_random(struct io *io, void *out, size_t n) {
    (void)io;
    if (n > sizeof pool.bytes / 4) {
        from_kernel(out, n);
        return;
    }
    unsigned generation = atomic_load(&fork_generation);
    if (pool.left < n || pool.generation != generation) {
        from_kernel(pool.bytes, sizeof pool.bytes);
        pool.left = sizeof pool.bytes;
        pool.generation = generation;
    }
    pool.left -= n;
    memcpy(out, pool.bytes + pool.left, n);
    explicit_bzero(pool.bytes + pool.left, n);
}

// --- files ---

static enum err os_open(struct io *io, const char *path, int flags, int *fd) {
    ASSERT((flags & (IO_READ | IO_WRITE)) != 0);
    int how = O_CLOEXEC;
    how |= (flags & IO_WRITE) == 0 ? O_RDONLY : (flags & IO_READ) == 0 ? O_WRONLY : O_RDWR;
    if (flags & IO_CREATE) how |= O_CREAT;
    if (flags & IO_EXCLUSIVE) how |= O_EXCL;
    int opened;
    do opened = openat(os_of(io)->root, checked(path), how, FILE_MODE);
    while (opened < 0 && errno == EINTR);
    if (opened < 0) return from_errno(errno);
    *fd = opened;
    return ERR_OK;
}

static enum err os_close(struct io *io, int fd) {
    (void)io;
    if (close(fd) == 0 || errno == EINTR) return ERR_OK; // Linux has let go of it even then
    ASSERT(errno != EBADF);
    return ERR_IO;
}

static enum err os_pread(struct io *io, int fd, void *out, size_t n, uint64_t offset, size_t *got) {
    (void)io;
    uint8_t *at = out;
    size_t done = 0;
    while (done < n) {
        ssize_t rc = pread(fd, at + done, n - done, (off_t)(offset + done));
        if (rc < 0 && errno == EINTR) continue;
        if (rc < 0) return ERR_IO;
        if (rc == 0) break;
        done += (size_t)rc;
    }
    *got = done;
    return ERR_OK;
}

static enum err os_pwrite(struct io *io, int fd, const void *data, size_t n, uint64_t offset) {
    (void)io;
    const uint8_t *at = data;
    size_t done = 0;
    while (done < n) {
        ssize_t rc = pwrite(fd, at + done, n - done, (off_t)(offset + done));
        if (rc < 0 && errno == EINTR) continue;
        if (rc < 0) return errno == ENOSPC || errno == EDQUOT ? ERR_FULL : ERR_IO;
        if (rc == 0) return ERR_IO;
        done += (size_t)rc;
    }
    return ERR_OK;
}

static enum err os_datasync(struct io *io, int fd) {
    (void)io;
    return result_of(fdatasync(fd));
}

static enum err os_allocate(struct io *io, int fd, uint64_t bytes) {
    (void)io;
    int code;
    do code = posix_fallocate(fd, 0, (off_t)bytes);
    while (code == EINTR);
    return code == 0 ? ERR_OK : from_errno(code);
}

static enum err os_truncate(struct io *io, int fd, uint64_t bytes) {
    (void)io;
    int rc;
    do rc = ftruncate(fd, (off_t)bytes);
    while (rc != 0 && errno == EINTR);
    return result_of(rc);
}

static enum err os_size(struct io *io, int fd, uint64_t *bytes) {
    (void)io;
    struct stat info;
    if (fstat(fd, &info) != 0) return ERR_IO;
    *bytes = (uint64_t)info.st_size;
    return ERR_OK;
}

static enum err os_lock(struct io *io, int fd) {
    (void)io;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return ERR_OK;
    return errno == EWOULDBLOCK ? ERR_LOCKED : ERR_IO;
}

// --- directories ---

static enum err os_remove(struct io *io, const char *path) {
    int root = os_of(io)->root;
    if (unlinkat(root, checked(path), 0) == 0) return ERR_OK;
    if (errno == EISDIR) return result_of(unlinkat(root, path, AT_REMOVEDIR));
    return from_errno(errno);
}

static enum err os_rename(struct io *io, const char *from, const char *to) {
    int root = os_of(io)->root;
    return result_of(renameat(root, checked(from), root, checked(to)));
}

// mkdir -p below `at`; `path` may be absolute only for the root itself.
static enum err make_dirs(int at, const char *path) {
    char part[PATH_SIZE];
    size_t length = strlen(path);
    if (length >= sizeof part) return ERR_TOO_LARGE;
    memcpy(part, path, length + 1);
    for (size_t i = 1; i <= length; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        part[i] = 0;
        if (mkdirat(at, part, DIR_MODE) != 0 && errno != EEXIST) return from_errno(errno);
        if (i < length) part[i] = '/';
    }
    struct stat info;
    if (fstatat(at, path, &info, 0) != 0) return from_errno(errno);
    return S_ISDIR(info.st_mode) ? ERR_OK : ERR_CONFLICT;
}

static enum err os_make_dir(struct io *io, const char *path) { return make_dirs(os_of(io)->root, checked(path)); }

static int open_dir(struct io *io, const char *path) {
    return openat(os_of(io)->root, checked(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum err os_sync_dir(struct io *io, const char *path) {
    int fd = open_dir(io, path);
    if (fd < 0) return from_errno(errno);
    enum err result = result_of(fsync(fd));
    close(fd);
    return result;
}

static enum err os_list(struct io *io, const char *path, void (*each)(void *arg, const char *name), void *arg) {
    int fd = open_dir(io, path);
    if (fd < 0) return from_errno(errno);
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return ERR_NOMEM;
    }
    struct dirent *entry;
    errno = 0;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) each(arg, entry->d_name);
        errno = 0;
    }
    enum err result = errno == 0 ? ERR_OK : ERR_IO;
    closedir(dir);
    return result;
}

static enum err os_space(struct io *io, struct io_space *out) {
    struct statvfs info;
    if (fstatvfs(os_of(io)->root, &info) != 0) return ERR_IO;
    out->free_bytes = (uint64_t)info.f_bavail * info.f_frsize;
    out->total_bytes = (uint64_t)info.f_blocks * info.f_frsize;
    return ERR_OK;
}

static const struct io_vtable os_vtable = {
    .monotonic_ns = os_monotonic_ns,
    .wall_ms = os_wall_ms,
    .random = os_random,
    .open = os_open,
    .close = os_close,
    .pread = os_pread,
    .pwrite = os_pwrite,
    .datasync = os_datasync,
    .allocate = os_allocate,
    .truncate = os_truncate,
    .size = os_size,
    .lock = os_lock,
    .remove = os_remove,
    .rename = os_rename,
    .make_dir = os_make_dir,
    .sync_dir = os_sync_dir,
    .list = os_list,
    .space = os_space,
};

enum err io_os_new(struct io **out, const char *root, struct error *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);

    if (root[0] == 0) return error_set(e, ERR_INVALID, "the data directory has no name");
    enum err result = make_dirs(AT_FDCWD, root);
    if (result != ERR_OK) return error_set(e, result, "cannot make the directory %s: %s", root, err_text(result));
    struct io_os *os = calloc(1, sizeof *os);
    if (os == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    os->io.v = &os_vtable;
    const char *shift = getenv("BARID_CLOCK_SHIFT");
    if (shift != NULL) os->clock_shift_ms = strtoll(shift, NULL, 10) * 1000;
    os->root = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (os->root < 0) {
        int code = errno;
        free(os);
        return error_set(e, from_errno(code), "cannot open the directory %s: %s", root, strerror(code));
    }
    *out = &os->io;
    return ERR_OK;
}

void io_os_free(struct io *io) {
    if (io == NULL) return;
    close(os_of(io)->root);
    free(os_of(io));
}
