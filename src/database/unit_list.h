// Units in a row, linked through their `next`.
#ifndef BARID_DATABASE_UNIT_LIST_H
#define BARID_DATABASE_UNIT_LIST_H

#include "database/database.h"

struct unit_list {
    struct db_unit *head, **tail;
};

static inline void units_init(struct unit_list *l) {
    l->head = NULL;
    l->tail = &l->head;
}

static inline void units_add(struct unit_list *l, struct db_unit *u) {
    u->next = NULL;
    *l->tail = u;
    l->tail = &u->next;
}

static inline struct db_unit *units_take(struct unit_list *l) {
    struct db_unit *u = l->head;
    l->head = u->next;
    if (!l->head) l->tail = &l->head;
    return u;
}

static inline void units_move(struct unit_list *to, struct unit_list *from) {
    if (!from->head) return;
    *to->tail = from->head;
    to->tail = from->tail;
    units_init(from);
}

#endif
