// A table for people: columns as wide as what is in them, control characters of others shown as '?'.
#ifndef BARID_CLI_TABLE_H
#define BARID_CLI_TABLE_H

#include <stddef.h>

#define TABLE_COLUMNS_MAX 8

struct table {
    size_t columns, cells, room;
    char **cell; // row by row
};

void table_init(struct table *t, size_t columns);
void table_row(struct table *t, const char *const *cells); // NULL cells are empty; the first row is the heading
void table_print(const struct table *t);
void table_release(struct table *t);
#endif
