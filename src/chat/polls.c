// The mailbox over plain requests: a page, and when there is nothing, a wait for something.
#include "chat/box.h"
#include "chat/homes.h"

#include <stdlib.h>

#define WAIT_MAX_MS 60000
#define PAGE_MAX    256

struct chat_poll {
    struct chat *chat;
    struct box *box;
    struct list_node node;
    struct chat_actor who;
    uint64_t after;
    uint32_t limit;
    uint64_t until_ms;
    struct page *page;
    bool poked; // something came while the page was being read
    bool homed; // other servers know that it waits here
    struct home_op *homing;
    struct loop_timer timer;
    chat_mailbox_fn *done;
    void *arg;
};

static void poll_free(struct chat_poll *p) {
    loop_timer_stop(p->chat->loop, &p->timer);
    if (p->page != NULL) p->page->owner = NULL;
    if (p->homing != NULL) home_cancel(p->homing);
    free(p);
}

static void poll_leave(struct chat_poll *p) {
    list_remove(&p->node);
    p->box->poll_count--;
    box_put(p->box);
}

void chat_poll_cancel(struct chat_poll *p) {
    poll_leave(p);
    poll_free(p);
}

static void poll_answer(struct chat_poll *p, const struct error *error, const struct chat_entry *entries, size_t n,
                        bool drained) {
    chat_mailbox_fn *done = p->done;
    void *arg = p->arg;
    poll_leave(p);
    poll_free(p);
    done(arg, error, entries, n, drained);
}

static void poll_read(struct chat_poll *p);

// Whoever makes an entry from now on tells this server; what was made before is looked for once more.
static void home_answer(void *owner, enum err err, uint64_t epoch) {
    struct chat_poll *p = owner;
    struct error e = {0};
    p->homing = NULL;
    p->homed = true;
    if (err == ERR_OK) poll_read(p);
    else poll_answer(p, error_set(&e, err, "%s", err_text(err)) != ERR_OK ? &e : NULL, NULL, 0, false);
}

static void answer_page(struct chat_poll *p, const struct page *page) {
    struct chat_entry views[PAGE_MAX];
    for (size_t i = 0; i < page->n; i++) views[i] = entry_view(&page->entries[i], page->entries[i].e.cursor);
    poll_answer(p, NULL, page->n > 0 ? views : NULL, page->n, page->n < page->limit);
}

static void page_answer(struct op *op, enum err err) {
    struct page *page = (struct page *)op;
    struct chat_poll *p = page->owner;
    if (p == NULL) return;
    p->page = NULL;
    if (err == ERR_OK && !page->live) err = ERR_UNAUTHORIZED;
    uint64_t now = loop_now_ms(p->chat->loop);
    if (err != ERR_OK) {
        poll_answer(p, op_error(op, err), NULL, 0, false);
    } else if (page->n > 0 || now >= p->until_ms) {
        answer_page(p, page);
    } else {
        p->after = page_end(page);
        if (!p->homed) p->homing = home_poll(p->chat, p->who.did, home_answer, p);
        else if (p->poked) poll_read(p);
        else loop_timer_start(p->chat->loop, &p->timer, p->until_ms - now);
    }
}

static void poll_read(struct chat_poll *p) {
    p->poked = false;
    loop_timer_stop(p->chat->loop, &p->timer);
    p->page = page_new(p->chat, p->who.did, p->after, p->limit, page_answer, p);
    op_submit(&p->page->op);
}

static void poll_timer(struct loop_timer *t) {
    struct chat_poll *p = LIST_ITEM(t, struct chat_poll, timer);
    poll_answer(p, NULL, NULL, 0, true);
}

void poll_poke(struct box *b) {
    LIST_EACH(&b->polls, at) {
        struct chat_poll *p = LIST_ITEM(at, struct chat_poll, node);
        p->poked = true;
        if (p->page == NULL && p->homing == NULL) poll_read(p);
    }
}

void poll_known(struct box *b, uint64_t cursor) {
    LIST_EACH(&b->polls, at) {
        struct chat_poll *p = LIST_ITEM(at, struct chat_poll, node);
        if (cursor > p->after && !p->poked) {
            poll_poke(b);
            return;
        }
    }
}

static void give_way(struct chat_poll *p) {
    p->until_ms = 0;
    if (p->page == NULL && p->homing == NULL) loop_timer_start(p->chat->loop, &p->timer, 0);
}

void polls_give_way(struct box *b) {
    LIST_EACH(&b->polls, at) {
        struct chat_poll *p = LIST_ITEM(at, struct chat_poll, node);
        if (p->homed) give_way(p);
    }
}

void polls_close(struct box *b) {
    struct error e = {0};
    error_set(&e, ERR_UNAUTHORIZED, "the device is logged out");
    struct chat *c = b->chat;
    int64_t did = b->did;
    for (size_t n = b->poll_count; n > 0; n--) { // an answer may end other polls, and the box with them
        b = box_find(c, did);
        if (b == NULL || list_empty(&b->polls)) return;
        poll_answer(LIST_ITEM(list_first(&b->polls), struct chat_poll, node), &e, NULL, 0, false);
    }
}

void polls_free(struct box *b) {
    LIST_EACH_SAFE(&b->polls, at)
    poll_free(LIST_ITEM(at, struct chat_poll, node));
    b->poll_count = 0;
}

// The oldest gives way, and is answered soon: at once would be from inside the call.
static void make_room(struct box *b) {
    size_t staying = 0;
    struct chat_poll *oldest = NULL;
    LIST_EACH(&b->polls, at) {
        struct chat_poll *p = LIST_ITEM(at, struct chat_poll, node);
        if (p->until_ms == 0) continue; // has given way already
        if (staying++ == 0) oldest = p;
    }
    if (staying <= POLLS_MAX) return;
    give_way(oldest);
}

struct chat_poll *chat_mailbox(struct chat *c, const struct chat_actor *who, uint64_t after, uint32_t limit,
                               uint32_t wait_ms, chat_mailbox_fn *done, void *arg) {
    struct chat_poll *p = chat_alloc(sizeof *p);
    *p = (struct chat_poll){.chat = c, .box = box_get(c, who->did), .who = *who, .after = after};
    p->limit = limit == 0 || limit > PAGE_MAX ? PAGE_MAX : limit;
    p->until_ms = loop_now_ms(c->loop) + (wait_ms < WAIT_MAX_MS ? wait_ms : WAIT_MAX_MS);
    p->timer.fn = poll_timer;
    p->homed = c->homes == NULL;
    p->done = done;
    p->arg = arg;
    list_push_back(&p->box->polls, &p->node);
    p->box->poll_count++;
    make_room(p->box);
    poll_read(p);
    return p;
}
