#include "cli/table.h"

#include "base/assert.h"
#include "client/render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 65536

void table_init(struct table *t, size_t columns) {
    ASSERT(columns > 0 && columns <= TABLE_COLUMNS_MAX);
    *t = (struct table){.columns = columns};
}

static char *safe(const char *text) {
    struct buf b;
    buf_init(&b, CELL_MAX);
    render_safe(&b, text, false);
    char *copy = strdup(buf_cstr(&b));
    buf_release(&b);
    if (copy == NULL) die("out of memory");
    return copy;
}

void table_row(struct table *t, const char *const *cells) {
    if (t->cells + t->columns > t->room) {
        t->room = t->room * 2 + 64 * t->columns;
        t->cell = realloc(t->cell, t->room * sizeof *t->cell);
        if (t->cell == NULL) die("out of memory");
    }
    for (size_t i = 0; i < t->columns; i++) t->cell[t->cells++] = safe(cells[i] != NULL ? cells[i] : "");
}

static int width_of(const char *text) {
    int n = 0;
    for (; *text != '\0'; text++)
        if (((unsigned char)*text & 0xc0) != 0x80) n++; // not within a character of UTF-8
    return n;
}

static void print_row(const struct table *t, size_t first, const int *widths) {
    size_t last = t->columns; // the end of a line is not filled up
    while (last > 1 && *t->cell[first + last - 1] == '\0') last--;
    for (size_t i = 0; i < last; i++) {
        const char *text = t->cell[first + i];
        printf("%s%*s", text, i + 1 < last ? widths[i] + 2 - width_of(text) : 0, "");
    }
    putchar('\n');
}

void table_print(const struct table *t) {
    int widths[TABLE_COLUMNS_MAX] = {0};
    for (size_t i = 0; i < t->cells; i++) {
        int n = width_of(t->cell[i]);
        if (n > widths[i % t->columns]) widths[i % t->columns] = n;
    }
    for (size_t i = 0; i < t->cells; i += t->columns) print_row(t, i, widths);
}

void table_release(struct table *t) {
    for (size_t i = 0; i < t->cells; i++) free(t->cell[i]);
    free(t->cell);
    *t = (struct table){0};
}
