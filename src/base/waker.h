// A wait on one socket that other threads can cut short: for threads that own a blocking library's connection.
//
//   its thread                                     any thread
//   waker_wait(w, fd, 1000) ── input, or …   <──   waker_wake(w)
#ifndef BARID_BASE_WAKER_H
#define BARID_BASE_WAKER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct waker {
    int fd;
};

enum err waker_init(struct waker *w, struct error *e);
void waker_release(struct waker *w);
void waker_wake(struct waker *w); // remembered until the next wait
// Until `fd` (-1: none) has input or an error, a wake, or so many milliseconds. True: it is the socket.
bool waker_wait(struct waker *w, int fd, uint32_t ms);
// Ends a socket's connection, so that a thread that is blocked in it comes back with an error. The descriptor stays.
void waker_cut(int fd);

#endif
