#include "base/waker.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum err waker_init(struct waker *w, struct error *e) {
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return w->fd < 0 ? error_set(e, ERR_IO, "no eventfd: %s", strerror(errno)) : ERR_OK;
}

void waker_release(struct waker *w) {
    if (w->fd >= 0) close(w->fd);
    w->fd = -1;
}

void waker_wake(struct waker *w) {
    uint64_t one = 1;
    while (write(w->fd, &one, sizeof one) < 0 && errno == EINTR) continue; // full: it is awake anyway
}

bool waker_wait(struct waker *w, int fd, uint32_t ms) {
    struct pollfd on[2] = {{.fd = w->fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    if (poll(on, 2, ms > INT32_MAX ? INT32_MAX : (int)ms) <= 0) return false;
    uint64_t count;
    while (on[0].revents && read(w->fd, &count, sizeof count) < 0 && errno == EINTR) continue;
    return on[1].revents != 0;
}

void waker_cut(int fd) { shutdown(fd, SHUT_RDWR); }
