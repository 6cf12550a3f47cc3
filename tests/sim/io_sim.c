#include "sim/io_sim.h"

#include "sim/sim_names.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define MAX_OPEN   4096
#define START_WALL 1767225600000 // 2026-01-01
#define START_DISK (1ull << 40)

struct descriptor {
    struct sim_file *file; // NULL: free
    int number;            // never used again after close
};

struct trigger {
    enum sim_op op;
    uint64_t left; // calls until it strikes, 0: none is set
    enum err err;
    bool sticky, struck;
};

struct io_sim {
    struct io io;
    struct sim_rng random, disk_random, test_random;
    uint64_t now_ns, slow[SIM_OPS];
    struct sim_names names;
    struct descriptor open[MAX_OPEN];
    int next_number;
    uint64_t capacity;
    struct trigger fault, power;
    bool dead;
    struct io_sim_stats stats;
};

static struct io_sim *sim_of(struct io *io) { return (struct io_sim *)io; }

// --- faults ---

static bool op_matches(enum sim_op wanted, enum sim_op op, bool changes) {
    if (wanted == SIM_ANY) return op != SIM_CLOSE && op != SIM_SPACE;
    if (wanted == SIM_CHANGE) return changes;
    return wanted == op;
}

static bool strikes(struct trigger *t, enum sim_op op, bool changes) {
    if (!op_matches(t->op, op, changes)) return false;
    if (t->struck && t->sticky) return true;
    if (t->left == 0 || --t->left > 0) return false;
    t->struck = true;
    return true;
}

// Every call passes here once. `changes`: does it change the disk?
static enum err enter(struct io_sim *s, enum sim_op op, bool changes) {
    s->stats.calls[op]++;
    s->now_ns += s->slow[op];
    if (s->dead) return ERR_IO;
    if (strikes(&s->power, op, changes)) {
        s->dead = true;
        return ERR_IO;
    }
    return strikes(&s->fault, op, changes) ? s->fault.err : ERR_OK;
}

// --- descriptors ---

static struct sim_file *file_of(struct io_sim *s, int fd) {
    for (size_t i = 0; i < MAX_OPEN; i++)
        if (s->open[i].file != NULL && s->open[i].number == fd) return s->open[i].file;
    ASSERT(s->dead || fd < s->next_number); // one that was never given out
    return NULL;
}

static enum err give_descriptor(struct io_sim *s, struct sim_file *f, int *fd) {
    for (size_t i = 0; i < MAX_OPEN; i++) {
        if (s->open[i].file != NULL) continue;
        s->open[i] = (struct descriptor){.file = f, .number = s->next_number};
        *fd = s->next_number++;
        f->opened++;
        return ERR_OK;
    }
    return ERR_LIMIT;
}

static void forget_descriptors(struct io_sim *s) {
    for (size_t i = 0; i < MAX_OPEN; i++) {
        if (s->open[i].file == NULL) continue;
        s->open[i].file->opened = 0;
        s->open[i].file->locked_by = -1;
        s->open[i].file = NULL;
    }
}

// --- clock and randomness ---

static uint64_t sim_monotonic_ns(struct io *io) { return sim_of(io)->now_ns; }

static int64_t sim_wall_ms(struct io *io) { return START_WALL + (int64_t)(sim_of(io)->now_ns / 1000000); }

static void sim_random(struct io *io, void *out, size_t n) {
    uint8_t *to = out;
    while (n > 0) {
        uint64_t word = sim_rng_next(&sim_of(io)->random);
        size_t part = n < sizeof word ? n : sizeof word;
        memcpy(to, &word, part);
        to += part;
        n -= part;
    }
}

// --- space ---

static uint64_t blocks(uint64_t bytes) { return (bytes + SIM_PAGE - 1) / SIM_PAGE * SIM_PAGE; }

static uint64_t used(const struct io_sim *s) {
    uint64_t sum = 0;
    for (size_t i = 0; i < s->names.file_count; i++) {
        const struct sim_file *f = s->names.files[i];
        bool named = f->opened > 0;
        for (size_t n = 0; n < s->names.now.count && !named; n++) named = s->names.now.names[n].file == f;
        if (named) sum += blocks(f->size);
    }
    return sum;
}

static bool fits(const struct io_sim *s, const struct sim_file *f, uint64_t size) {
    if (blocks(size) <= blocks(f->size)) return true;
    uint64_t more = blocks(size) - blocks(f->size), now = used(s);
    return now <= s->capacity && more <= s->capacity - now;
}

static enum err sim_space(struct io *io, struct io_space *out) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_SPACE, false);
    uint64_t now = used(s);
    *out = (struct io_space){.free_bytes = s->capacity > now ? s->capacity - now : 0, .total_bytes = s->capacity};
    return err;
}

// --- files ---

static enum err sim_open(struct io *io, const char *path, int flags, int *fd) {
    struct io_sim *s = sim_of(io);
    struct sim_file *f = sim_names_find(&s->names, path);
    bool creates = f == NULL && (flags & IO_CREATE) != 0;
    enum err err = enter(s, SIM_OPEN, creates);
    if (err != ERR_OK) return err;
    if (f != NULL && f->is_dir) return ERR_IO;
    if (f != NULL && (flags & IO_EXCLUSIVE)) return ERR_CONFLICT;
    if (f == NULL && (!creates || !sim_names_parent_exists(&s->names, path))) return ERR_NOT_FOUND;
    if (f == NULL) f = sim_names_create(&s->names, path, false);
    return give_descriptor(s, f, fd);
}

static enum err sim_close(struct io *io, int fd) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_CLOSE, false);
    for (size_t i = 0; i < MAX_OPEN; i++) {
        if (s->open[i].file == NULL || s->open[i].number != fd) continue;
        struct sim_file *f = s->open[i].file;
        s->open[i].file = NULL;
        f->opened--;
        if (f->locked_by == fd) f->locked_by = -1;
        sim_names_collect(&s->names);
        return err;
    }
    return ERR_IO;
}

static enum err sim_pread(struct io *io, int fd, void *out, size_t n, uint64_t offset, size_t *got) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_PREAD, false);
    if (err != ERR_OK) return err;
    struct sim_file *f = file_of(s, fd);
    if (f == NULL) return ERR_IO;
    size_t part = 0;
    if (offset < f->size) part = f->size - offset < n ? (size_t)(f->size - offset) : n;
    sim_file_read(f, out, part, offset);
    s->stats.read_bytes += part;
    *got = part;
    return ERR_OK;
}

static enum err sim_pwrite(struct io *io, int fd, const void *data, size_t n, uint64_t offset) {
    struct io_sim *s = sim_of(io);
    bool was_dead = s->dead;
    enum err err = enter(s, SIM_PWRITE, true);
    struct sim_file *f = was_dead ? NULL : file_of(s, fd);
    if (f == NULL) return ERR_IO;
    if (err == ERR_OK && !fits(s, f, offset + n)) err = ERR_FULL;
    if (err == ERR_OK) {
        sim_file_write(f, data, n, offset);
        s->stats.written_bytes += n;
        return ERR_OK;
    }
    size_t part = n == 0 ? 0 : (size_t)sim_rng_below(&s->disk_random, n);
    if (part > 0 && fits(s, f, offset + part)) sim_file_write(f, data, part, offset);
    return err;
}

static enum err sim_datasync(struct io *io, int fd) {
    struct io_sim *s = sim_of(io);
    bool was_dead = s->dead;
    enum err err = enter(s, SIM_DATASYNC, true);
    struct sim_file *f = was_dead ? NULL : file_of(s, fd);
    if (f == NULL) return ERR_IO;
    if (err == ERR_OK) sim_file_sync(f);
    else if (!s->dead) sim_file_sync_fails(f, &s->disk_random);
    return err;
}

static enum err resize(struct io *io, int fd, uint64_t bytes, enum sim_op op) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, op, true);
    if (err != ERR_OK) return err;
    struct sim_file *f = file_of(s, fd);
    if (f == NULL) return ERR_IO;
    if (op == SIM_ALLOCATE && bytes <= f->size) return ERR_OK;
    if (op == SIM_ALLOCATE && !fits(s, f, bytes)) return ERR_FULL;
    sim_file_resize(f, bytes);
    return ERR_OK;
}

static enum err sim_allocate(struct io *io, int fd, uint64_t bytes) { return resize(io, fd, bytes, SIM_ALLOCATE); }

static enum err sim_truncate(struct io *io, int fd, uint64_t bytes) { return resize(io, fd, bytes, SIM_TRUNCATE); }

static enum err sim_file_size(struct io *io, int fd, uint64_t *bytes) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_SIZE, false);
    if (err != ERR_OK) return err;
    struct sim_file *f = file_of(s, fd);
    if (f == NULL) return ERR_IO;
    *bytes = f->size;
    return ERR_OK;
}

static enum err sim_lock(struct io *io, int fd) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_LOCK, false);
    if (err != ERR_OK) return err;
    struct sim_file *f = file_of(s, fd);
    if (f == NULL) return ERR_IO;
    if (f->locked_by >= 0 && f->locked_by != fd) return ERR_LOCKED;
    f->locked_by = fd;
    return ERR_OK;
}

// --- names ---

static enum err sim_remove(struct io *io, const char *path) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_REMOVE, true);
    if (err != ERR_OK) return err;
    struct sim_file *f = sim_names_find(&s->names, path);
    if (f == NULL) return ERR_NOT_FOUND;
    if (f->is_dir && sim_names_has_children(&s->names, path)) return ERR_IO;
    sim_names_remove(&s->names, path);
    return ERR_OK;
}

static enum err sim_rename(struct io *io, const char *from, const char *to) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_RENAME, true);
    if (err != ERR_OK) return err;
    if (sim_names_find(&s->names, from) == NULL || !sim_names_parent_exists(&s->names, to)) return ERR_NOT_FOUND;
    sim_names_rename(&s->names, from, to);
    return ERR_OK;
}

static enum err sim_make_dir(struct io *io, const char *path) {
    struct io_sim *s = sim_of(io);
    char part[IO_NAME_MAX * 4];
    size_t length = strlen(path);
    ASSERT(length < sizeof part);
    enum err err = enter(s, SIM_MAKE_DIR, true);
    if (err != ERR_OK) return err;
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (strcmp(part, ".") == 0) continue;
        struct sim_file *there = sim_names_find(&s->names, part);
        if (there == NULL) sim_names_create(&s->names, part, true);
        else if (!there->is_dir) return ERR_CONFLICT;
    }
    return ERR_OK;
}

static bool dir_exists(const struct io_sim *s, const char *path) {
    if (path[0] == 0 || strcmp(path, ".") == 0) return true;
    const struct sim_file *f = sim_names_find(&s->names, path);
    return f != NULL && f->is_dir;
}

static enum err sim_sync_dir(struct io *io, const char *path) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_SYNC_DIR, true);
    if (err != ERR_OK) return err;
    if (!dir_exists(s, path)) return ERR_NOT_FOUND;
    sim_names_sync(&s->names, path);
    return ERR_OK;
}

static enum err sim_list(struct io *io, const char *path, void (*each)(void *arg, const char *name), void *arg) {
    struct io_sim *s = sim_of(io);
    enum err err = enter(s, SIM_LIST, false);
    if (err != ERR_OK) return err;
    if (!dir_exists(s, path)) return ERR_NOT_FOUND;
    size_t count = s->names.now.count;
    char **found = calloc(count + 1, sizeof *found);
    ASSERT(found != NULL);
    size_t n = 0, first = count > 0 ? (size_t)sim_rng_below(&s->disk_random, count) : 0;
    for (size_t i = 0; i < count; i++) {
        const char *name = sim_path_in(s->names.now.names[(first + i) % count].path, path);
        if (name == NULL) continue;
        found[n] = strdup(name); // `each` may change the directory
        ASSERT(found[n] != NULL);
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        each(arg, found[i]);
        free(found[i]);
    }
    free(found);
    return ERR_OK;
}

static const struct io_vtable sim_vtable = {
    .monotonic_ns = sim_monotonic_ns,
    .wall_ms = sim_wall_ms,
    .random = sim_random,
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwrite = sim_pwrite,
    .datasync = sim_datasync,
    .allocate = sim_allocate,
    .truncate = sim_truncate,
    .size = sim_file_size,
    .lock = sim_lock,
    .remove = sim_remove,
    .rename = sim_rename,
    .make_dir = sim_make_dir,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .space = sim_space,
};

// --- the test's side ---

struct io_sim *io_sim_new(uint64_t seed) {
    struct io_sim *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    struct sim_rng seeds = {.state = seed};
    s->io.v = &sim_vtable;
    s->random.state = sim_rng_next(&seeds);
    s->disk_random.state = sim_rng_next(&seeds);
    s->test_random.state = sim_rng_next(&seeds);
    s->now_ns = 1000000000;
    s->next_number = 3;
    s->capacity = START_DISK;
    sim_names_init(&s->names);
    return s;
}

void io_sim_free(struct io_sim *s) {
    if (s == NULL) return;
    sim_names_release(&s->names);
    free(s);
}

struct io *io_sim_io(struct io_sim *s) {
    return &s->io;
}

uint64_t io_sim_random(struct io_sim *s, uint64_t below) { return sim_rng_below(&s->test_random, below); }

void io_sim_advance(struct io_sim *s, uint64_t ns) { s->now_ns += ns; }

void io_sim_slow(struct io_sim *s, enum sim_op op, uint64_t ns) {
    for (int i = 0; i < SIM_OPS; i++)
        if (op_matches(op, (enum sim_op)i, i >= SIM_PWRITE && i <= SIM_SYNC_DIR)) s->slow[i] = ns;
}

void io_sim_fail(struct io_sim *s, enum sim_op op, uint64_t n, enum err err, bool sticky) {
    s->fault = (struct trigger){.op = op, .left = n, .err = err, .sticky = sticky};
}

bool io_sim_failed(const struct io_sim *s) { return s->fault.struck; }

void io_sim_die_at(struct io_sim *s, enum sim_op op, uint64_t n) { s->power = (struct trigger){.op = op, .left = n}; }

bool io_sim_dead(const struct io_sim *s) { return s->dead; }

void io_sim_kill(struct io_sim *s) {
    forget_descriptors(s);
    s->fault = s->power = (struct trigger){0};
    s->dead = false;
    sim_names_collect(&s->names);
}

void io_sim_crash(struct io_sim *s) {
    io_sim_kill(s);
    sim_names_crash(&s->names, &s->disk_random);
    s->stats.crashes++;
}

static struct sim_file *within(struct io_sim *s, const char *path, uint64_t offset, size_t n) {
    struct sim_file *f = sim_names_find(&s->names, path);
    if (f == NULL || f->is_dir || offset > f->size || n > f->size - offset) return NULL;
    return f;
}

bool io_sim_peek(struct io_sim *s, const char *path, uint64_t offset, void *out, size_t n) {
    struct sim_file *f = within(s, path, offset, n);
    if (f != NULL) sim_file_read(f, out, n, offset);
    return f != NULL;
}

bool io_sim_poke(struct io_sim *s, const char *path, uint64_t offset, const void *data, size_t n) {
    struct sim_file *f = within(s, path, offset, n);
    if (f != NULL) sim_file_poke(f, data, n, offset);
    return f != NULL;
}

bool io_sim_flip(struct io_sim *s, const char *path, uint64_t offset, unsigned bit) {
    uint8_t byte;
    if (!io_sim_peek(s, path, offset, &byte, 1)) return false;
    byte ^= (uint8_t)(1u << (bit & 7));
    return io_sim_poke(s, path, offset, &byte, 1);
}

bool io_sim_size(struct io_sim *s, const char *path, uint64_t *bytes) {
    struct sim_file *f = within(s, path, 0, 0);
    if (f != NULL) *bytes = f->size;
    return f != NULL;
}

void io_sim_capacity(struct io_sim *s, uint64_t bytes) { s->capacity = bytes; }

void io_sim_stats(const struct io_sim *s, struct io_sim_stats *out) {
    *out = s->stats;
    out->used_bytes = used(s);
    for (size_t i = 0; i < s->names.now.count; i++) out->files += !s->names.now.names[i].file->is_dir;
    for (size_t i = 0; i < MAX_OPEN; i++) out->open_descriptors += s->open[i].file != NULL;
}
