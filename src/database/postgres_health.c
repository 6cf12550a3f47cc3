// Away and back: one log record tells of an outage, and one of its end.
#include "database/postgres_health.h"

#include "base/assert.h"
#include "base/log.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

#define FIRST_WAIT_MS 100
#define LAST_WAIT_MS  1000 // a restart takes two or three seconds; longer waits would double it

void postgres_health_init(struct postgres_health *h) {
    *h = (struct postgres_health){.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    if (h->wake_fd < 0) die("no descriptor for the database");
    pthread_mutex_init(&h->mutex, NULL);
}

void postgres_health_release(struct postgres_health *h) {
    close(h->wake_fd);
    pthread_mutex_destroy(&h->mutex);
}

uint64_t postgres_now_ms(void) { return uv_hrtime() / 1000000; }

uint32_t postgres_jitter(uint32_t up_to_ms) {
    uint32_t r = 0;
    uv_random(NULL, NULL, &r, sizeof r, 0, NULL);
    return up_to_ms ? 1 + r % up_to_ms : 0;
}

void postgres_health_wake(struct postgres_health *h) {
    uint64_t one = 1;
    ASSERT(write(h->wake_fd, &one, sizeof one) == sizeof one || errno == EAGAIN);
}

bool postgres_health_is_away(struct postgres_health *h) {
    pthread_mutex_lock(&h->mutex);
    bool away = h->away;
    pthread_mutex_unlock(&h->mutex);
    return away;
}

uint64_t postgres_health_wait_ms(struct postgres_health *h) {
    pthread_mutex_lock(&h->mutex);
    uint64_t now = postgres_now_ms(), wait = h->away && h->next_try_ms > now ? h->next_try_ms - now : 0;
    pthread_mutex_unlock(&h->mutex);
    return wait;
}

void postgres_health_failed(struct postgres_health *h, const struct error *e) {
    pthread_mutex_lock(&h->mutex);
    bool first = !h->away;
    uint64_t wait = first ? FIRST_WAIT_MS : h->wait_ms * 2;
    h->away = true;
    h->wait_ms = wait > LAST_WAIT_MS ? LAST_WAIT_MS : wait;
    h->next_try_ms = postgres_now_ms() + h->wait_ms / 2 + postgres_jitter((uint32_t)h->wait_ms / 2);
    pthread_mutex_unlock(&h->mutex);
    if (!first) return;
    log_event(LOG_WARN, "database_away", "msg", e->text, NULL);
    postgres_health_wake(h);
}

void postgres_health_connected(struct postgres_health *h) {
    pthread_mutex_lock(&h->mutex);
    bool was_away = h->away;
    h->away = false;
    pthread_mutex_unlock(&h->mutex);
    if (was_away) log_event(LOG_INFO, "database_back", NULL);
}
