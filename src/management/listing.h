// A list as RabbitMQ's API answers it: ?columns=, ?sort=, ?sort_reverse=, and pages with ?page=, ?page_size=, ?name=,
// ?use_regex=.
//
//   if (!listing_init(&l, c)) return;            // answered: a parameter makes no sense
//   for each thing:
//       struct out *o = listing_item(&l, name, order);    // NULL: filtered out
//       … fields …
//       listing_item_end(&l);
//   listing_answer(&l);
//
// The items are written one after the other into one buffer, and then picked from it in order.
#ifndef BARID_MANAGEMENT_LISTING_H
#define BARID_MANAGEMENT_LISTING_H

#include "management/out.h"

struct call;
struct name_pattern;

struct listing_item {
    size_t at, length; // of its text
    char *order;       // among equals
    struct sort_value value;
};

struct listing {
    struct call *call;
    struct columns columns;
    struct out out;
    struct buf text;
    struct listing_item *items;
    size_t count, room, total; // total: before the filter
    bool failed;               // no memory
    char *sort, *filter;
    struct name_pattern *pattern; // NULL: the filter is a part of the name
    bool reverse, paged;
    int64_t page, page_size;
};

bool listing_init(struct listing *l, struct call *c);
// `name` is what the filter looks at; `order` says where it stands when nothing else does ("vhost name").
struct out *listing_item(struct listing *l, const char *name, const char *order);
void listing_item_end(struct listing *l);
void listing_answer(struct listing *l); // and releases it
void listing_release(struct listing *l);

// One object, with its columns: fields, then single_answer.
struct single {
    struct call *call;
    struct columns columns;
    struct out out;
};
struct out *single_init(struct single *s, struct call *c); // opened
void single_answer(struct single *s);
void single_release(struct single *s);

#endif
