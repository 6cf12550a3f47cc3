// The table of queues; see status_queues.h.
#include "cli/status_queues.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAME_MIN         12 // columns of the name, however narrow the terminal is
#define NAME_MAX_COLUMNS 60

// ---- reading --------------------------------------------------------------------------------------------

// The value of a label, its escapes undone, to be freed; NULL: there is none.
static char *label(const char *labels, const char *name) {
    char start[32];
    snprintf(start, sizeof start, "%s=\"", name);
    const char *at = strstr(labels, start);
    if (at == NULL) return NULL;
    at += strlen(start);
    char *text = strdup(at), *to = text;
    if (text == NULL) return NULL;
    for (; *at != '\0' && *at != '"'; at++) {
        if (*at == '\\' && at[1] != '\0') *to++ = *++at == 'n' ? '\n' : *at;
        else *to++ = *at;
    }
    *to = '\0';
    return text;
}

static struct queue_row *row_add(struct queue_rows *q) {
    if (q->count == q->room) {
        size_t room = q->room == 0 ? 64 : q->room * 2;
        struct queue_row *rows = realloc(q->rows, room * sizeof *rows);
        if (rows == NULL) return NULL;
        q->rows = rows;
        q->room = room;
    }
    q->rows[q->count] = (struct queue_row){0};
    return &q->rows[q->count++];
}

// The same labels, another metric.
static double beside(const json_t *metrics, const char *metric, const char *labels) {
    char key[1400];
    snprintf(key, sizeof key, "%s%s", metric, labels);
    return json_number_value(json_object_get(metrics, key));
}

void queue_rows_read(struct queue_rows *q, const json_t *metrics, uint64_t now_ms) {
    static const char metric[] = "rabbitmq_queue_messages_ready";
    const char *key;
    json_t *v;
    *q = (struct queue_rows){.at_ms = now_ms};
    json_object_foreach((json_t *)metrics, key, v) {
        const char *labels = key + sizeof metric - 1;
        if (strncmp(key, metric, sizeof metric - 1) != 0 || *labels != '{') continue;
        char *vhost = label(labels, "vhost"), *name = label(labels, "queue");
        struct queue_row *r = vhost != NULL && name != NULL ? row_add(q) : NULL;
        if (r == NULL) {
            free(vhost);
            free(name);
            continue;
        }
        r->vhost = vhost;
        r->name = name;
        r->ready = json_number_value(v);
        r->unacked = beside(metrics, "rabbitmq_queue_messages_unacked", labels);
        r->bytes = beside(metrics, "rabbitmq_queue_messages_bytes", labels);
        r->published = beside(metrics, "rabbitmq_queue_messages_published_total", labels);
        r->delivered = beside(metrics, "barid_queue_delivered_total", labels);
        r->parked = beside(metrics, "barid_queue_parked", labels);
        r->memory = beside(metrics, "barid_queue_memory_bytes", labels);
        r->oldest_s = beside(metrics, "barid_queue_oldest_seconds", labels);
    }
    queue_rows_sort(q, "name");
}

void queue_rows_release(struct queue_rows *q) {
    for (size_t i = 0; i < q->count; i++) {
        free(q->rows[i].vhost);
        free(q->rows[i].name);
    }
    free(q->rows);
    *q = (struct queue_rows){0};
}

// ---- order and rates ------------------------------------------------------------------------------------

static int by_name(const struct queue_row *a, const struct queue_row *b) {
    int by_vhost = strcmp(a->vhost, b->vhost);
    return by_vhost != 0 ? by_vhost : strcmp(a->name, b->name);
}

// Both are sorted by name.
void queue_rows_rates(struct queue_rows *q, const struct queue_rows *before) {
    double seconds = (double)(q->at_ms - before->at_ms) / 1000;
    size_t at = 0;
    for (size_t i = 0; i < q->count; i++) {
        struct queue_row *r = &q->rows[i];
        while (at < before->count && by_name(&before->rows[at], r) < 0) at++;
        if (at == before->count || by_name(&before->rows[at], r) != 0 || seconds <= 0) continue;
        const struct queue_row *was = &before->rows[at];
        if (r->published >= was->published) r->in = (r->published - was->published) / seconds;
        if (r->delivered >= was->delivered) r->out = (r->delivered - was->delivered) / seconds;
    }
}

static const struct column {
    const char *name, *head;
    size_t at; // in the row
    int width;
    enum { COUNT, RATE, AGE, SIZE } kind;
    int leave; // the higher the sooner it is left out of a narrow table
} columns[] = {
    {"ready", "ready", offsetof(struct queue_row, ready), 9, COUNT, 0},
    {"unacked", "unacked", offsetof(struct queue_row, unacked), 9, COUNT, 1},
    {"in", "in/s", offsetof(struct queue_row, in), 9, RATE, 2},
    {"out", "out/s", offsetof(struct queue_row, out), 9, RATE, 3},
    {"oldest", "oldest", offsetof(struct queue_row, oldest_s), 8, AGE, 4},
    {"parked", "parked", offsetof(struct queue_row, parked), 8, COUNT, 7},
    {"memory", "memory", offsetof(struct queue_row, memory), 8, SIZE, 5},
    {"disk", "disk", offsetof(struct queue_row, bytes), 8, SIZE, 6},
};
#define COLUMNS (sizeof columns / sizeof columns[0])

static double value(const struct queue_row *r, const struct column *c) {
    return *(const double *)(const void *)((const char *)r + c->at);
}

static int compare_names(const void *a, const void *b) { return by_name(a, b); }

static int compare_values(const void *a, const void *b, void *arg) {
    double x = value(a, arg), y = value(b, arg);
    return x != y ? (x < y ? 1 : -1) : by_name(a, b); // the largest first
}

bool queue_rows_sort(struct queue_rows *q, const char *by) {
    const struct column *column = NULL;
    for (size_t i = 0; i < COLUMNS; i++)
        if (strcmp(columns[i].name, by) == 0) column = &columns[i];
    if (column == NULL && strcmp(by, "name") != 0) return false;
    if (q->count == 0) return true;
    if (column == NULL) qsort(q->rows, q->count, sizeof *q->rows, compare_names);
    else qsort_r(q->rows, q->count, sizeof *q->rows, compare_values, (void *)column);
    return true;
}

// ---- the table ------------------------------------------------------------------------------------------

// 1536 with step 1024: "1.5k". `units` begins with that of plain numbers, a space for none.
static void scaled(char *out, size_t size, double v, double step, const char *units) {
    const char *unit = units;
    while (v >= step && unit[1] != '\0') {
        v /= step;
        unit++;
    }
    snprintf(out, size, v < 10 && unit > units ? "%.1f%c" : "%.0f%c", v, *unit);
    size_t n = strlen(out);
    if (out[n - 1] == ' ') out[n - 1] = '\0';
}

static void write_cell(char *out, size_t size, const struct column *c, double v) {
    switch (c->kind) {
    case COUNT:
        if (v < 1e7) snprintf(out, size, "%.0f", v);
        else scaled(out, size, v, 1000, " kMGT");
        return;
    case RATE:
        if (v < 1e5) snprintf(out, size, v > 0 && v < 10 ? "%.1f" : "%.0f", v);
        else scaled(out, size, v, 1000, " kMGT");
        return;
    case AGE:
        if (v < 120) snprintf(out, size, "%.0fs", v);
        else if (v < 7200) snprintf(out, size, "%.0fm", v / 60);
        else if (v < 172800) snprintf(out, size, "%.0fh", v / 3600);
        else snprintf(out, size, "%.0fd", v / 86400);
        return;
    case SIZE: scaled(out, size, v, 1024, "BKMGT"); return;
    }
}

// Names are other people's: nothing of them reaches the terminal but what is shown. Columns are counted in characters.
static size_t put_name(const char *text, size_t width) {
    size_t n = 0;
    for (; *text != '\0' && n < width; n++) {
        unsigned char c = (unsigned char)*text++;
        size_t more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc2 ? 1 : 0;
        bool whole = true;
        for (size_t i = 0; i < more; i++) whole = whole && ((unsigned char)text[i] & 0xc0) == 0x80;
        bool control = c < 0x20 || c == 0x7f || (c >= 0x80 && more == 0) || (c == 0xc2 && (unsigned char)*text < 0xa0);
        if (!whole) control = true;
        if (control) putchar('?');
        else printf("%c%.*s", c, (int)more, text);
        if (whole) text += more;
    }
    return n;
}

static void pad(size_t from, size_t to) {
    for (; from < to; from++) putchar(' ');
}

static size_t longest_name(const struct queue_rows *q, bool vhosts) {
    size_t longest = 5;
    for (size_t i = 0; i < q->count; i++) {
        size_t n = strlen(q->rows[i].name) + (vhosts ? strlen(q->rows[i].vhost) + 1 : 0);
        if (n > longest) longest = n;
    }
    return longest < NAME_MAX_COLUMNS ? longest : NAME_MAX_COLUMNS;
}

// How many columns there is room for: those with `leave` below that.
static int columns_in(size_t width, size_t name) {
    int shown = (int)COLUMNS;
    for (; shown > 1; shown--) {
        size_t need = name;
        for (size_t i = 0; i < COLUMNS; i++)
            if (columns[i].leave < shown) need += (size_t)columns[i].width + 1;
        if (need <= width) break;
    }
    return shown;
}

static void print_head(size_t name, int shown) {
    printf("queue");
    pad(5, name);
    for (size_t i = 0; i < COLUMNS; i++)
        if (columns[i].leave < shown) printf(" %*s", columns[i].width, columns[i].head);
    putchar('\n');
}

static void print_row(const struct queue_row *r, size_t name, int shown, bool vhosts) {
    size_t at = 0;
    if (vhosts) {
        at = put_name(r->vhost, name / 2);
        putchar(' ');
        at++;
    }
    at += put_name(r->name, name - at);
    pad(at, name);
    for (size_t i = 0; i < COLUMNS; i++) {
        char cell[32];
        if (columns[i].leave >= shown) continue;
        write_cell(cell, sizeof cell, &columns[i], value(r, &columns[i]));
        printf(" %*s", columns[i].width, cell);
    }
    putchar('\n');
}

void queue_rows_print(const struct queue_rows *q, size_t width, size_t lines) {
    bool vhosts = false;
    for (size_t i = 0; i < q->count; i++) vhosts = vhosts || strcmp(q->rows[i].vhost, "/") != 0;
    size_t name = longest_name(q, vhosts);
    int shown = columns_in(width, name);
    if (shown < 6) {
        // Better a shortened name than a missing figure.
        name = name < NAME_MIN ? name : NAME_MIN;
        shown = columns_in(width, name);
        size_t need = 0;
        for (size_t i = 0; i < COLUMNS; i++)
            if (columns[i].leave < shown) need += (size_t)columns[i].width + 1;
        size_t wanted = longest_name(q, vhosts);
        if (need + name < width) name = wanted < width - need ? wanted : width - need;
    }
    if (lines < 2) return;
    print_head(name, shown);
    size_t rows = q->count <= lines - 1 ? q->count : lines > 2 ? lines - 2 : 0;
    for (size_t i = 0; i < rows; i++) print_row(&q->rows[i], name, shown, vhosts);
    if (rows < q->count) printf("… and %zu more\n", q->count - rows);
}

json_t *queue_rows_json(const struct queue_rows *q) {
    json_t *list = json_array();
    for (size_t i = 0; i < q->count; i++) {
        const struct queue_row *r = &q->rows[i];
        json_t *o = json_pack("{s:s, s:s}", "vhost", r->vhost, "queue", r->name);
        if (o == NULL) continue;
        for (size_t k = 0; k < COLUMNS; k++) json_object_set_new(o, columns[k].name, json_real(value(r, &columns[k])));
        json_array_append_new(list, o);
    }
    return list;
}
