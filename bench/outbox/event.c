// What the programs of this folder share; see event.h.
#include "outbox/event.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void event_write(char *out, size_t bytes, const struct event *event) {
    int n = snprintf(out, bytes + 1, "%020" PRIu64 " %010" PRIu32 " ", event->number, event->key);
    if (n < 0 || (size_t)n > bytes) fail("a payload has at least %d bytes", EVENT_HEAD);
    memset(out + n, 'x', bytes - (size_t)n);
    out[bytes] = 0;
}

static bool digits(const char *text, size_t n, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (uint64_t)(text[i] - '0');
    }
    return true;
}

bool event_read(const void *payload, size_t n, struct event *out) {
    const char *text = payload;
    uint64_t key;
    if (n < EVENT_HEAD || !digits(text, 20, &out->number) || !digits(text + 21, 10, &key)) return false;
    out->key = (uint32_t)key;
    return out->number < EVENTS_MAX && key < KEYS_MAX;
}

void event_key(char out[static EVENT_KEY], uint32_t key) { snprintf(out, EVENT_KEY, "key-%" PRIu32, key); }

int64_t *times_map(const char *path, uint64_t n) {
    size_t size = (n ? n : 1) * sizeof(int64_t);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    off_t there = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    if (there < 0 || ((size_t)there < size && ftruncate(fd, (off_t)size) < 0)) fail("%s: %s", path, strerror(errno));
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) fail("%s: %s", path, strerror(errno));
    close(fd);
    return at;
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

static double seconds_of(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec / 1e6; }

double cpu_seconds(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void *allocate(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) fail("out of memory");
    return p;
}

uint64_t number_option(const char *name, const char *text, uint64_t max) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || end == text || *text == '-' || v > max) {
        fail("%s is a number up to %" PRIu64 ", not '%s'", name, max, text);
    }
    return v;
}
