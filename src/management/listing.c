// Lists, in order and by pages; see listing.h.
#include "management/listing.h"

#include "http/json_out.h"
#include "management/call.h"
#include "management/name_pattern.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PAGE_SIZE_STANDARD 100
#define PAGE_SIZE_MAX      500

// ---- parameters -----------------------------------------------------------------------------------------

// False: it is there and not a number above 0.
static bool number_query(const struct call *c, const char *name, int64_t otherwise, int64_t max, int64_t *out) {
    char *text = call_query(c, name);
    *out = otherwise;
    if (text == NULL) return true;
    char *end;
    *out = strtoll(text, &end, 10);
    bool good = end != text && *end == '\0' && *out > 0 && *out <= max;
    free(text);
    return good;
}

static bool read_page(struct listing *l) {
    struct call *c = l->call;
    if (!number_query(c, "page", 0, INT32_MAX, &l->page) ||
        !number_query(c, "page_size", PAGE_SIZE_STANDARD, PAGE_SIZE_MAX, &l->page_size)) {
        call_fail(c, 400, "invalid_pagination_parameters",
                  "Invalid pagination parameters: a page is 1 or more, "
                  "page_size is 1 to %d",
                  PAGE_SIZE_MAX);
        return false;
    }
    l->paged = l->page > 0;
    if (l->paged) l->filter = call_query(c, "name");
    return true;
}

static bool read_filter(struct listing *l) {
    if (l->filter == NULL || *l->filter == '\0' || !call_flag(l->call, "use_regex")) return true;
    l->pattern = name_pattern_new(l->filter);
    if (l->pattern != NULL) return true;
    call_fail(l->call, 400, "invalid_pagination_parameters", "name is not a regular expression");
    return false;
}

static bool read_columns(struct columns *columns, struct call *c) {
    char *text = call_query(c, "columns");
    bool good = columns_init(columns, text);
    free(text);
    if (!good) call_fail(c, 400, "bad_request", "more than %d columns", OUT_COLUMNS_MAX);
    return good;
}

bool listing_init(struct listing *l, struct call *c) {
    *l = (struct listing){.call = c};
    buf_init(&l->text, CALL_OUT_MAX);
    if (!read_page(l) || !read_filter(l) || !read_columns(&l->columns, c)) {
        listing_release(l);
        return false;
    }
    l->sort = call_query(c, "sort");
    if (l->sort != NULL && *l->sort == '\0') {
        free(l->sort);
        l->sort = NULL;
    }
    l->reverse = call_flag(c, "sort_reverse");
    return true;
}

void listing_release(struct listing *l) {
    for (size_t i = 0; i < l->count; i++) {
        free(l->items[i].order);
        sort_value_release(&l->items[i].value);
    }
    name_pattern_free(l->pattern);
    free(l->items);
    free(l->sort);
    free(l->filter);
    columns_release(&l->columns);
    buf_release(&l->text);
}

// ---- items ----------------------------------------------------------------------------------------------

static bool passes(const struct listing *l, const char *name) {
    if (l->filter == NULL || *l->filter == '\0') return true;
    if (l->pattern != NULL) return name_pattern_matches(l->pattern, name);
    return strcasestr(name, l->filter) != NULL;
}

static struct listing_item *add(struct listing *l) {
    if (l->count == l->room) {
        size_t room = l->room == 0 ? 64 : l->room * 2;
        struct listing_item *items = realloc(l->items, room * sizeof *items);
        if (items == NULL) {
            l->failed = true;
            return NULL;
        }
        l->items = items;
        l->room = room;
    }
    struct listing_item *i = &l->items[l->count++];
    *i = (struct listing_item){.at = l->text.len};
    return i;
}

struct out *listing_item(struct listing *l, const char *name, const char *order) {
    l->total++;
    if (l->failed || !buf_ok(&l->text) || !passes(l, name)) return NULL;
    struct listing_item *i = add(l);
    if (i == NULL) return NULL;
    i->order = strdup(order);
    l->failed = i->order == NULL;
    out_init(&l->out, &l->text, &l->columns);
    l->out.sort = l->sort;
    l->out.found = &i->value;
    out_open(&l->out, NULL, '{');
    return &l->out;
}

void listing_item_end(struct listing *l) {
    struct listing_item *i = &l->items[l->count - 1];
    out_close(&l->out, '}');
    if (!buf_ok(&l->text)) return;
    if (l->text.data[i->at] == ',') i->at++;
    i->length = l->text.len - i->at;
}

// ---- the answer -----------------------------------------------------------------------------------------

static int compare(const void *a, const void *b) {
    const struct listing_item *x = a, *y = b;
    int by_value = sort_value_compare(&x->value, &y->value);
    return by_value != 0 ? by_value : strcmp(x->order, y->order);
}

static void put_items(struct listing *l, struct buf *b, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        const struct listing_item *item = &l->items[l->reverse ? l->count - 1 - i : i];
        if (i > from) buf_add_u8(b, ',');
        buf_add(b, l->text.data + item->at, item->length);
    }
}

static void put_page(struct listing *l, struct buf *b, size_t from, size_t to) {
    json_open(b, NULL, '{');
    json_uint(b, "filtered_count", l->count);
    json_uint(b, "item_count", to - from);
    json_open(b, "items", '[');
    put_items(l, b, from, to);
    json_close(b, ']');
    json_uint(b, "page", (uint64_t)l->page);
    json_uint(b, "page_count", (l->count + (size_t)l->page_size - 1) / (size_t)l->page_size);
    json_uint(b, "page_size", (uint64_t)l->page_size);
    json_uint(b, "total_count", l->total);
    json_close(b, '}');
}

static void answer_page(struct listing *l) {
    struct call *c = l->call;
    size_t from = (size_t)(l->page - 1) * (size_t)l->page_size;
    if (from > 0 && from >= l->count) {
        call_fail(c, 400, "page_out_of_range", "Page out of range, page: %lld page size: %lld, len: %zu",
                  (long long)l->page, (long long)l->page_size, l->count);
        return;
    }
    size_t to = from + (size_t)l->page_size;
    put_page(l, &c->out, from, to < l->count ? to : l->count);
    call_answer(c, 200);
}

void listing_answer(struct listing *l) {
    struct call *c = l->call;
    if (l->pattern != NULL && name_pattern_gave_up(l->pattern)) {
        call_fail(c, 400, "invalid_pagination_parameters", "the regular expression takes too long");
    } else if (!buf_ok(&l->text) || l->failed) {
        c->out.failed = true; // said by call_answer
        call_answer(c, 200);
    } else {
        if (l->count > 0) qsort(l->items, l->count, sizeof *l->items, compare);
        if (l->paged) {
            answer_page(l);
        } else {
            json_open(&c->out, NULL, '[');
            put_items(l, &c->out, 0, l->count);
            json_close(&c->out, ']');
            call_answer(c, 200);
        }
    }
    listing_release(l);
}

// ---- one ------------------------------------------------------------------------------------------------

struct out *single_init(struct single *s, struct call *c) {
    *s = (struct single){.call = c};
    if (!read_columns(&s->columns, c)) return NULL;
    out_init(&s->out, &c->out, &s->columns);
    out_open(&s->out, NULL, '{');
    return &s->out;
}

void single_answer(struct single *s) {
    out_close(&s->out, '}');
    call_answer(s->call, 200);
    single_release(s);
}

void single_release(struct single *s) { columns_release(&s->columns); }
