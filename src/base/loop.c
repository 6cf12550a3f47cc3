// The loop on libuv. One async handle carries everything posted, one uv timer stands for the whole heap of
// timers (set to the earliest), one prepare handle runs the before-block hooks.
#include "base/loop.h"

#include "base/assert.h"
#include "base/list.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <uv.h>

#define CLOSING_ROUNDS 1000

struct loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_timer_t timer;
    uv_prepare_t prepare;

    pthread_mutex_t post_lock; // guards the two below
    struct loop_post *post_first;
    struct loop_post **post_end;

    struct heap timers;
    uint64_t timer_order;
    bool in_timers; // on_timer is at work and will set the uv timer itself
    struct loop_idle *idles;
    unsigned working; // items given to the pool and not done
    _Atomic pthread_t thread;
};

_Static_assert(sizeof(uv_work_t) <= sizeof(((struct loop_work *)0)->private_), "loop_work has room for uv_work_t");

// --- posting ---

void loop_post(struct loop *l, struct loop_post *p) {
    pthread_mutex_lock(&l->post_lock);
    ASSERT(!p->posted);
    p->posted = true;
    p->next = NULL;
    bool first = l->post_first == NULL;
    *l->post_end = p;
    l->post_end = &p->next;
    pthread_mutex_unlock(&l->post_lock);
    if (first) uv_async_send(&l->async);
}

static struct loop_post *take_post(struct loop *l) {
    pthread_mutex_lock(&l->post_lock);
    struct loop_post *p = l->post_first;
    if (p != NULL) {
        l->post_first = p->next;
        if (p->next == NULL) l->post_end = &l->post_first;
        p->posted = false;
    }
    pthread_mutex_unlock(&l->post_lock);
    return p;
}

static struct loop_post *last_post(struct loop *l) {
    pthread_mutex_lock(&l->post_lock);
    struct loop_post *last = l->post_first == NULL ? NULL : LIST_ITEM(l->post_end, struct loop_post, next);
    pthread_mutex_unlock(&l->post_lock);
    return last;
}

// Runs what is posted now; what these post in turn waits for the next iteration, so that sockets get theirs.
static void run_posts(struct loop *l) {
    struct loop_post *last = last_post(l);
    struct loop_post *p = NULL;
    while (p != last && (p = take_post(l)) != NULL) p->fn(p);
    if (last_post(l) != NULL) uv_async_send(&l->async);
}

static void on_async(uv_async_t *handle) { run_posts(handle->data); }

// --- timers ---

static bool timer_before(const struct heap_node *a, const struct heap_node *b) {
    const struct loop_timer *x = LIST_ITEM(a, const struct loop_timer, heap);
    const struct loop_timer *y = LIST_ITEM(b, const struct loop_timer, heap);
    return x->due_ms != y->due_ms ? x->due_ms < y->due_ms : x->order < y->order;
}

static struct loop_timer *first_timer(struct loop *l) {
    struct heap_node *n = heap_first(&l->timers);
    return n != NULL ? LIST_ITEM(n, struct loop_timer, heap) : NULL;
}

static void on_timer(uv_timer_t *handle);

static void set_uv_timer(struct loop *l, uint64_t at_least_ms) {
    struct loop_timer *first = first_timer(l);
    if (first == NULL) {
        uv_timer_stop(&l->timer);
        return;
    }
    uint64_t now = uv_now(&l->uv);
    uint64_t delay = first->due_ms > now ? first->due_ms - now : 0;
    uv_timer_start(&l->timer, on_timer, delay > at_least_ms ? delay : at_least_ms, 0);
}

// A timer that starts itself again with no delay must not keep the loop here: those started now wait, and since
// libuv runs whatever is due before it looks at sockets again, they wait for the next millisecond.
static void on_timer(uv_timer_t *handle) {
    struct loop *l = handle->data;
    uint64_t now = uv_now(&l->uv), started_before = l->timer_order;
    struct loop_timer *t;
    l->in_timers = true;
    while ((t = first_timer(l)) != NULL && t->due_ms <= now && t->order < started_before) {
        heap_remove(&l->timers, &t->heap);
        t->fn(t);
    }
    l->in_timers = false;
    set_uv_timer(l, 1);
}

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t delay_ms) {
    ASSERT(loop_on_thread(l) && t->fn != NULL);
    uint64_t now = uv_now(&l->uv);
    heap_remove(&l->timers, &t->heap);
    t->due_ms = delay_ms < UINT64_MAX - now ? now + delay_ms : UINT64_MAX;
    t->order = l->timer_order++;
    if (!heap_push(&l->timers, &t->heap)) die("out of memory for a timer");
    if (!l->in_timers) set_uv_timer(l, 0);
}

void loop_timer_stop(struct loop *l, struct loop_timer *t) {
    if (!loop_timer_active(t)) return;
    ASSERT(loop_on_thread(l));
    heap_remove(&l->timers, &t->heap);
    if (!l->in_timers) set_uv_timer(l, 0);
}

// --- work on the pool ---

static void on_work(uv_work_t *request) {
    struct loop_work *w = request->data;
    w->work(w);
}

static void on_work_done(uv_work_t *request, int status) {
    (void)status;
    struct loop_work *w = request->data;
    w->loop->working--;
    w->done(w);
}

void loop_work(struct loop *l, struct loop_work *w) {
    ASSERT(loop_on_thread(l));
    uv_work_t *request = (uv_work_t *)w->private_;
    request->data = w;
    w->loop = l;
    l->working++;
    int rc = uv_queue_work(&l->uv, request, on_work, on_work_done);
    ASSERT(rc == 0);
}

// --- before blocking ---

void loop_before_block(struct loop *l, struct loop_idle *i) {
    struct loop_idle **end = &l->idles;
    while (*end != NULL) end = &(*end)->next;
    i->next = NULL;
    *end = i;
}

void loop_before_block_end(struct loop *l, struct loop_idle *i) {
    struct loop_idle **at = &l->idles;
    while (*at != NULL && *at != i) at = &(*at)->next;
    if (*at != NULL) *at = i->next;
}

static void on_prepare(uv_prepare_t *handle) {
    struct loop *l = handle->data;
    for (struct loop_idle *i = l->idles, *next; i != NULL; i = next) {
        next = i->next;
        i->fn(i);
    }
}

// --- the loop itself ---

static void init_handles(struct loop *l) {
    l->async.data = l->timer.data = l->prepare.data = l;
    uv_timer_init(&l->uv, &l->timer);
    uv_prepare_init(&l->uv, &l->prepare);
    uv_prepare_start(&l->prepare, on_prepare);
}

enum err loop_new(struct loop **out, struct error *e) {
    struct loop *l = calloc(1, sizeof *l);
    if (l == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    int rc = uv_loop_init(&l->uv);
    if (rc == 0) {
        rc = uv_async_init(&l->uv, &l->async, on_async);
        if (rc != 0) uv_loop_close(&l->uv);
    }
    if (rc != 0) {
        free(l);
        return error_set(e, ERR_IO, "cannot make an event loop: %s", uv_strerror(rc));
    }
    init_handles(l);
    pthread_mutex_init(&l->post_lock, NULL);
    l->post_end = &l->post_first;
    heap_init(&l->timers, timer_before);
    l->thread = pthread_self();
    *out = l;
    return ERR_OK;
}

void loop_run(struct loop *l) {
    l->thread = pthread_self();
    uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *l) { uv_stop(&l->uv); }

void loop_free(struct loop *l) {
    if (l == NULL) return;
    l->thread = pthread_self();
    ASSERT(l->idles == NULL); // a hook whose owner is gone would run below
    while (l->working > 0) uv_run(&l->uv, UV_RUN_ONCE);
    for (struct loop_post *p; (p = take_post(l)) != NULL;) p->fn(p);
    uv_close((uv_handle_t *)&l->async, NULL);
    uv_close((uv_handle_t *)&l->timer, NULL);
    uv_close((uv_handle_t *)&l->prepare, NULL);
    for (int i = 0; i < CLOSING_ROUNDS && uv_run(&l->uv, UV_RUN_NOWAIT) != 0; i++) {
    }
    int rc = uv_loop_close(&l->uv);
    ASSERT(rc == 0); // a handle that its owner has not closed
    heap_release(&l->timers);
    pthread_mutex_destroy(&l->post_lock);
    free(l);
}

struct uv_loop_s *loop_uv(struct loop *l) {
    return &l->uv;
}

bool loop_on_thread(const struct loop *l) { return pthread_equal(l->thread, pthread_self()) != 0; }

uint64_t loop_now_ms(struct loop *l) { return uv_now(&l->uv); }

bool loop_input_waits(int fd) {
    int n = 0;
    return ioctl(fd, FIONREAD, &n) == 0 && n > 0;
}
