// The loop: posts arrive from any thread and in order, timers in order of their time, work on the pool comes back.
#include "base/loop.h"
#include "base/test.h"

#include <pthread.h>

static struct loop *loop;

static int make_loop(void **state) {
    (void)state;
    return loop_new(&loop, NULL) == ERR_OK ? 0 : -1;
}

static int free_loop(void **state) {
    (void)state;
    loop_free(loop);
    return 0;
}

// --- posts ---

#define THREADS 4
#define POSTS   5000

struct note {
    struct loop_post post;
    int thread, number;
};

static struct note notes[THREADS][POSTS];
static int last_number[THREADS];
static int arrived;
static bool in_order, on_thread;

static void take_note(struct loop_post *p) {
    struct note *n = (struct note *)p;
    in_order &= n->number == last_number[n->thread] + 1;
    on_thread &= loop_on_thread(loop);
    last_number[n->thread] = n->number;
    if (++arrived == THREADS * POSTS) loop_stop(loop);
}

static void *post_all(void *arg) {
    struct note *mine = arg;
    for (int i = 0; i < POSTS; i++) loop_post(loop, &mine[i].post);
    return loop_on_thread(loop) ? NULL : arg;
}

static void posts_from_other_threads_all_run_on_the_loop_in_order(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    in_order = on_thread = true;
    arrived = 0;
    for (int t = 0; t < THREADS; t++) {
        last_number[t] = -1;
        for (int i = 0; i < POSTS; i++) notes[t][i] = (struct note){.post.fn = take_note, .thread = t, .number = i};
        assert_int_equal(pthread_create(&threads[t], NULL, post_all, notes[t]), 0);
    }
    loop_run(loop);
    for (int t = 0; t < THREADS; t++) {
        void *not_loop_thread;
        pthread_join(threads[t], &not_loop_thread);
        assert_non_null(not_loop_thread);
    }
    assert_int_equal(arrived, THREADS * POSTS);
    assert_true(in_order);
    assert_true(on_thread);
}

static int left_over;

static void count_left_over(struct loop_post *p) {
    (void)p;
    left_over++;
}

static void stop_loop(struct loop_post *p) {
    (void)p;
    loop_stop(loop);
}

static int again;

static void post_again(struct loop_post *p) {
    if (++again == 100) loop_stop(loop);
    else loop_post(loop, p);
}

static void a_post_may_post_itself_again(void **state) {
    (void)state;
    struct loop_post p = {.fn = post_again};
    again = 0;
    loop_post(loop, &p);
    loop_run(loop);
    assert_int_equal(again, 100);
    assert_false(p.posted);
}

static struct loop_post behind = {.fn = stop_loop};

static void post_behind(struct loop_post *p) {
    (void)p;
    loop_post(loop, &behind);
}

static void what_a_post_posts_behind_others_is_not_forgotten(void **state) {
    (void)state;
    struct loop_post first = {.fn = post_behind}, second = {.fn = count_left_over};
    loop_post(loop, &first);
    loop_post(loop, &second);
    loop_run(loop);
    assert_false(behind.posted);
}

static void what_is_still_posted_runs_when_the_loop_is_freed(void **state) {
    (void)state;
    struct loop *own;
    struct loop_post a = {.fn = count_left_over}, b = {.fn = count_left_over};
    assert_int_equal(loop_new(&own, NULL), ERR_OK);
    left_over = 0;
    loop_post(own, &a);
    loop_post(own, &b);
    loop_free(own);
    assert_int_equal(left_over, 2);
}

// --- timers ---

struct alarm {
    struct loop_timer timer;
    int name;
};

static char rung[32];

static void ring(struct loop_timer *t) {
    size_t n = strlen(rung);
    rung[n] = (char)('a' + ((struct alarm *)t)->name);
    rung[n + 1] = 0;
}

static void ring_and_stop(struct loop_timer *t) {
    ring(t);
    loop_stop(loop);
}

static void timers_run_in_order_of_time_and_then_of_starting(void **state) {
    (void)state;
    struct alarm alarms[6];
    const uint64_t delays[6] = {20, 5, 10, 5, 1, 25};
    rung[0] = 0;
    for (int i = 0; i < 6; i++) {
        alarms[i] = (struct alarm){.timer.fn = i == 5 ? ring_and_stop : ring, .name = i};
        loop_timer_start(loop, &alarms[i].timer, delays[i]);
    }
    loop_run(loop);
    assert_string_equal(rung, "ebdcaf");
}

static void timers_can_be_stopped_and_moved(void **state) {
    (void)state;
    struct alarm stopped = {.timer.fn = ring, .name = 0}, moved = {.timer.fn = ring, .name = 1};
    struct alarm last = {.timer.fn = ring_and_stop, .name = 2};
    rung[0] = 0;
    loop_timer_stop(loop, &stopped.timer); // idle: nothing happens
    loop_timer_start(loop, &stopped.timer, 1);
    loop_timer_start(loop, &moved.timer, 100000);
    loop_timer_start(loop, &last.timer, 15);
    loop_timer_start(loop, &moved.timer, 5);
    assert_true(loop_timer_active(&stopped.timer));
    loop_timer_stop(loop, &stopped.timer);
    assert_false(loop_timer_active(&stopped.timer));
    loop_run(loop);
    assert_string_equal(rung, "bc");
    assert_false(loop_timer_active(&moved.timer));
}

static void a_timer_does_not_ring_early(void **state) {
    (void)state;
    struct alarm a = {.timer.fn = ring_and_stop};
    rung[0] = 0;
    loop_timer_start(loop, &a.timer, 20);
    uint64_t before = loop_now_ms(loop);
    loop_run(loop);
    assert_true(loop_now_ms(loop) >= before + 20);
}

static int spins;

static void spin(struct loop_timer *t) {
    spins++;
    loop_timer_start(loop, t, 0);
}

static void *post_stop(void *arg) {
    loop_post(loop, arg);
    return NULL;
}

static void a_timer_that_starts_itself_at_once_starves_nobody(void **state) {
    (void)state;
    struct loop_timer t = {.fn = spin};
    struct loop_post p = {.fn = stop_loop};
    pthread_t thread;
    spins = 0;
    loop_timer_start(loop, &t, 0);
    assert_int_equal(pthread_create(&thread, NULL, post_stop, &p), 0);
    loop_run(loop);
    pthread_join(thread, NULL);
    loop_timer_stop(loop, &t);
    assert_true(spins > 0);
}

// --- work and hooks ---

struct job {
    struct loop_work work;
    pthread_t worked_on;
    bool done;
};

static int jobs_done;

static void do_job(struct loop_work *w) { ((struct job *)w)->worked_on = pthread_self(); }

static void job_done(struct loop_work *w) {
    ((struct job *)w)->done = loop_on_thread(loop);
    if (++jobs_done == 20) loop_stop(loop);
}

static void work_runs_elsewhere_and_comes_back(void **state) {
    (void)state;
    struct job jobs[20] = {0};
    jobs_done = 0;
    for (int i = 0; i < 20; i++) {
        jobs[i].work = (struct loop_work){.work = do_job, .done = job_done};
        loop_work(loop, &jobs[i].work);
    }
    loop_run(loop);
    for (int i = 0; i < 20; i++) {
        assert_true(jobs[i].done);
        assert_false(pthread_equal(jobs[i].worked_on, pthread_self()));
    }
}

struct hook {
    struct loop_idle idle;
    int calls;
    struct loop_post flush;
};

static void before_block(struct loop_idle *i) {
    struct hook *h = (struct hook *)i;
    if (h->calls++ == 0) loop_post(loop, &h->flush);
}

static void before_blocking_the_hooks_run_and_may_post(void **state) {
    (void)state;
    static struct hook h = {.idle.fn = before_block, .flush.fn = stop_loop};
    loop_before_block(loop, &h.idle);
    loop_run(loop);
    assert_true(h.calls >= 1);
    loop_before_block_end(loop, &h.idle);
}

int main(void) {
#define WITH_LOOP(f) cmocka_unit_test_setup_teardown(f, make_loop, free_loop)
    const struct CMUnitTest tests[] = {
        WITH_LOOP(posts_from_other_threads_all_run_on_the_loop_in_order),
        WITH_LOOP(a_post_may_post_itself_again),
        WITH_LOOP(what_a_post_posts_behind_others_is_not_forgotten),
        cmocka_unit_test(what_is_still_posted_runs_when_the_loop_is_freed),
        WITH_LOOP(timers_run_in_order_of_time_and_then_of_starting),
        WITH_LOOP(timers_can_be_stopped_and_moved),
        WITH_LOOP(a_timer_does_not_ring_early),
        WITH_LOOP(a_timer_that_starts_itself_at_once_starves_nobody),
        WITH_LOOP(work_runs_elsewhere_and_comes_back),
        WITH_LOOP(before_blocking_the_hooks_run_and_may_post),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
