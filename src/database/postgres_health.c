// Away and back. A try that succeeds opens the gate for all.
#include "database/postgres_health.h"

#include "base/log.h"

#include <uv.h>

#define FIRST_WAIT_MS 100
#define LAST_WAIT_MS  5000
#define TRY_LASTS_MS  10000 // a try that is not answered for so long is not waited for by the others

void postgres_health_init(struct postgres_health *h) {
    *h = (struct postgres_health){.away = false};
    pthread_mutex_init(&h->mutex, NULL);
}

void postgres_health_release(struct postgres_health *h) { pthread_mutex_destroy(&h->mutex); }

uint64_t postgres_now_ms(void) { return uv_hrtime() / 1000000; }

uint32_t postgres_jitter(uint32_t up_to_ms) {
    uint32_t r = 0;
    uv_random(NULL, NULL, &r, sizeof r, 0, NULL);
    return up_to_ms ? 1 + r % up_to_ms : 0;
}

bool postgres_health_may_try(struct postgres_health *h, uint64_t *wait_ms) {
    pthread_mutex_lock(&h->mutex);
    uint64_t now = postgres_now_ms();
    bool may = !h->away || now >= h->next_try_ms;
    if (wait_ms) *wait_ms = may ? 0 : h->next_try_ms - now;
    if (may && h->away) h->next_try_ms = now + TRY_LASTS_MS;
    pthread_mutex_unlock(&h->mutex);
    return may;
}

bool postgres_health_is_away(struct postgres_health *h) {
    pthread_mutex_lock(&h->mutex);
    bool away = h->away;
    pthread_mutex_unlock(&h->mutex);
    return away;
}

void postgres_health_failed(struct postgres_health *h, const struct error *e) {
    pthread_mutex_lock(&h->mutex);
    bool first = !h->away;
    uint64_t wait = first ? FIRST_WAIT_MS : h->wait_ms * 2;
    h->away = true;
    h->wait_ms = wait > LAST_WAIT_MS ? LAST_WAIT_MS : wait;
    h->next_try_ms = postgres_now_ms() + h->wait_ms / 2 + postgres_jitter((uint32_t)h->wait_ms / 2);
    pthread_mutex_unlock(&h->mutex);
    if (first) log_event(LOG_WARN, "database_away", "msg", e->text, NULL);
}

void postgres_health_connected(struct postgres_health *h) {
    pthread_mutex_lock(&h->mutex);
    bool was_away = h->away;
    h->away = false;
    pthread_mutex_unlock(&h->mutex);
    if (was_away) log_event(LOG_INFO, "database_back", NULL);
}
