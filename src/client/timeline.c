#include "client/timeline.h"

#include "base/assert.h"
#include "base/time.h"
#include "client/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// In the order of the journey; it decides between points of the same millisecond, and between clocks.
static const struct {
    const char *point, *symbol, *meaning;
    enum colour colour;
} stages[] = {
    {"created", "●", "stored on the sender's device", COLOUR_GREEN},
    {"accepted", "●", "safe in the service", COLOUR_GREEN},
    {"published", "●", "event confirmed by the bus", COLOUR_GREEN},
    {"queued", "●", "in the recipients' mailboxes", COLOUR_GREEN},
    {"notified", "●", "device told over its socket", COLOUR_GREEN},
    {"received", "●", "content stored on the device", COLOUR_GREEN},
    {"delivered", "●", "every recipient has it", COLOUR_GREEN},
    {"deleted", "●", "content gone from the service", COLOUR_GREEN},
    {"read", "●", "seen", COLOUR_BLUE},
    {"retried", "↻", "tried again", COLOUR_YELLOW},
    {"parked", "◼", "attempts spent", COLOUR_YELLOW},
    {"rejected", "✗", "will not be tried again", COLOUR_RED},
    {"expired", "✗", "nobody fetched it in time", COLOUR_RED},
};
#define STAGES (sizeof stages / sizeof *stages)

static size_t stage_of(const char *point) {
    for (size_t i = 0; i < STAGES; i++)
        if (!strcmp(point, stages[i].point)) return i;
    return STAGES;
}

void timeline_init(struct timeline *t) {
    memset(t, 0, sizeof *t);
    t->points = calloc(TIMELINE_POINTS_MAX, sizeof *t->points);
    if (!t->points) die("out of memory");
}

void timeline_release(struct timeline *t) {
    free(t->points);
    memset(t, 0, sizeof *t);
}

static void copy(char *out, size_t size, const char *text) {
    struct buf safe;
    buf_init(&safe, 4 * size);
    render_safe(&safe, text, false);
    snprintf(out, size, "%s", buf_ok(&safe) ? buf_cstr(&safe) : "");
    buf_release(&safe);
}

static void add_service_point(struct timeline *t, const json_t *object) {
    if (t->n == TIMELINE_POINTS_MAX) return;
    struct timeline_point *p = &t->points[t->n++];
    memset(p, 0, sizeof *p);
    copy(p->point, sizeof p->point, member_text(object, "point", "?"));
    copy(p->user_id, sizeof p->user_id, member_text(object, "user_id", ""));
    copy(p->device_id, sizeof p->device_id, member_text(object, "device_id", ""));
    copy(p->detail, sizeof p->detail, member_text(object, "detail", ""));
    p->at = member_time(object, "at", 0);
}

static bool only_we_know(const char *point) {
    return !strcmp(point, "created") || !strcmp(point, "retried") || !strcmp(point, "rejected");
}

static void add_local_point(struct timeline *t, const struct store_point *local) {
    if (t->n == TIMELINE_POINTS_MAX) return;
    if (t->from_service && (!only_we_know(local->point) || timeline_has(t, local->point))) return;
    struct timeline_point *p = &t->points[t->n++];
    memset(p, 0, sizeof *p);
    snprintf(p->point, sizeof p->point, "%s", local->point);
    copy(p->detail, sizeof p->detail, local->detail);
    p->at = local->at;
    p->local = true;
}

static int by_time(const void *a, const void *b) {
    const struct timeline_point *x = a, *y = b;
    size_t sx = stage_of(x->point), sy = stage_of(y->point);
    if (sx == 0 || sy == 0) return (sy == 0) - (sx == 0); // created comes first whatever the clocks say
    if (x->at != y->at) return x->at < y->at ? -1 : 1;
    return sx < sy ? -1 : sx > sy;
}

void timeline_fill(struct timeline *t, const struct store_point *local, size_t local_n, const json_t *journey) {
    t->n = 0;
    t->from_service = journey != NULL;
    size_t i;
    const json_t *object;
    json_array_foreach(json_object_get(journey, "points"), i, object) add_service_point(t, object);
    for (i = 0; i < local_n; i++) add_local_point(t, &local[i]);
    qsort(t->points, t->n, sizeof *t->points, by_time);
}

bool timeline_has(const struct timeline *t, const char *point) {
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->points[i].point, point)) return true;
    return false;
}

bool timeline_ended(const struct timeline *t, size_t readers) {
    size_t reads = 0;
    for (size_t i = 0; i < t->n; i++) reads += !strcmp(t->points[i].point, "read");
    return reads >= readers || timeline_has(t, "rejected") || timeline_has(t, "expired");
}

static void render_delta(struct buf *out, int64_t ms) {
    char text[32];
    int64_t size = ms < 0 ? -ms : ms;
    char sign = ms < 0 ? '-' : '+';
    if (size < 1000) snprintf(text, sizeof text, "%c%d ms", sign, (int)size);
    else if (size < 60000) snprintf(text, sizeof text, "%c%.2f s", sign, (double)size / 1000);
    else if (size < 3600000)
        snprintf(text, sizeof text, "%c%d min %d s", sign, (int)(size / 60000), (int)(size / 1000 % 60));
    else snprintf(text, sizeof text, "%c%d h %d min", sign, (int)(size / 3600000 % 1000000), (int)(size / 60000 % 60));
    buf_printf(out, "%12s", text);
}

static void render_who(struct buf *out, const struct timeline_point *p, const char *own_device) {
    if (p->user_id[0]) buf_printf(out, "%s", p->user_id);
    if (p->device_id[0]) {
        bool own = !strcmp(p->device_id, own_device);
        buf_printf(out, "%s%s%s", p->user_id[0] ? ", " : "", own ? "this device" : "device ",
                   own ? "" : short_id(p->device_id));
    }
    if (p->user_id[0] || p->device_id[0]) buf_add_str(out, ": ");
}

void timeline_render_point(const struct timeline *t, size_t i, struct style style, const char *device_id,
                           struct buf *out) {
    const struct timeline_point *p = &t->points[i];
    size_t stage = stage_of(p->point);
    buf_add_str(out, "  ");
    render_colour(out, style, stage < STAGES ? stages[stage].colour : COLOUR_PLAIN,
                  stage < STAGES ? stages[stage].symbol : "●");
    buf_printf(out, " %-10s ", p->point);
    render_clock(out, p->at, true);
    if (i > 0) render_delta(out, p->at - t->points[i - 1].at);
    else buf_printf(out, "%12s", "");
    buf_add_str(out, "  ");
    render_who(out, p, device_id);
    if (p->detail[0]) buf_add_str(out, p->detail);
    else if (stage < STAGES) buf_add_str(out, stages[stage].meaning);
    buf_add_str(out, "\n");
}

static const char *what_next(const struct timeline *t) {
    if (timeline_has(t, "rejected") || timeline_has(t, "expired") || timeline_has(t, "read")) return NULL;
    if (timeline_has(t, "received") || timeline_has(t, "delivered")) return "not read yet";
    if (timeline_has(t, "notified")) return "on its way to a device";
    if (timeline_has(t, "queued")) return "waiting for a device of the recipients";
    if (timeline_has(t, "accepted")) return "on its way to the recipients' mailboxes";
    return "not accepted by the service yet";
}

void timeline_render(const struct timeline *t, struct style style, const char *device_id, struct buf *out) {
    for (size_t i = 0; i < t->n; i++) {
        if (i > 0) {
            buf_add_str(out, "  ");
            render_colour(out, style, COLOUR_DIM, "│");
            buf_add_str(out, "\n");
        }
        timeline_render_point(t, i, style, device_id, out);
    }
    const char *next = what_next(t);
    if (next) {
        buf_add_str(out, t->n ? "  ┊\n  ○ " : "  ○ ");
        render_colour(out, style, COLOUR_DIM, next);
        buf_add_str(out, "\n");
    }
}

json_t *timeline_point_json(const struct timeline_point *p) {
    char at[TIME_TEXT];
    time_format_ms(p->at, at);
    json_t *object = json_pack("{s:s, s:s}", "point", p->point, "at", at);
    if (p->user_id[0]) json_object_set_new(object, "user_id", json_string(p->user_id));
    if (p->device_id[0]) json_object_set_new(object, "device_id", json_string(p->device_id));
    if (p->detail[0]) json_object_set_new(object, "detail", json_string(p->detail));
    json_object_set_new(object, "source", json_string(p->local ? "device" : "service"));
    return object;
}
