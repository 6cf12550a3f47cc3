// A JSON object being written, of which only some columns may be wanted (?columns=name,message_stats.publish) and one
// may be looked for to sort by. Straight into a buffer: nothing is built that is not asked for.
#ifndef BARID_MANAGEMENT_OUT_H
#define BARID_MANAGEMENT_OUT_H

#include "base/buf.h"
#include "wire/table.h"

#include <stdbool.h>
#include <stdint.h>

#define OUT_COLUMNS_MAX 64
#define OUT_DEPTH_MAX   (2 * TABLE_DEPTH_MAX + 8)
#define OUT_PATH_MAX    192

struct columns {
    char *text; // the names point into it
    const char *names[OUT_COLUMNS_MAX];
    uint32_t count;
};
bool columns_init(struct columns *c, const char *text); // NULL: all. False: too many
void columns_release(struct columns *c);

// What the sorted-by column held. Nothing comes first, then numbers, then texts.
struct sort_value {
    bool is_text;
    double number;
    char *text; // freed by sort_value_release
};
int sort_value_compare(const struct sort_value *a, const struct sort_value *b);
void sort_value_release(struct sort_value *v);

struct out {
    struct buf *b;
    const struct columns *columns; // NULL: all
    const char *sort;              // NULL: nothing is looked for
    struct sort_value *found;
    uint32_t depth;
    struct {
        uint32_t path_length;
        uint8_t want;
        bool array;
    } level[OUT_DEPTH_MAX];
    char path[OUT_PATH_MAX];
    uint32_t path_length;
};

void out_init(struct out *o, struct buf *b, const struct columns *columns);
void out_open(struct out *o, const char *key, char bracket);
void out_close(struct out *o, char bracket);
void out_text(struct out *o, const char *key, const char *text); // NULL: null
void out_view(struct out *o, const char *key, struct view text);
void out_int(struct out *o, const char *key, int64_t v);
void out_uint(struct out *o, const char *key, uint64_t v);
void out_real(struct out *o, const char *key, double v);
void out_bool(struct out *o, const char *key, bool v);
void out_null(struct out *o, const char *key);
void out_table(struct out *o, const char *key, struct view table);
void out_array(struct out *o, const char *key, struct view entries);
// "publish": 7, "publish_details": {"rate": 1.4}
void out_count(struct out *o, const char *key, uint64_t v, double rate);

#endif
