// The journey of a message, shown like the tracking of a parcel:
//
//   ● created     10:02:11.120            alice, this device
//   │
//   ● accepted    10:02:11.131    +11 ms  safe in the service
//   …
//   ○ delivered, not read yet
//
// The service's points are the truth about what it did; this device adds what only it knows: when the message was
// created, tries that failed, a rejection. Without a connection the local points are all there is.
#ifndef BARID_CLIENT_TIMELINE_H
#define BARID_CLIENT_TIMELINE_H

#include "base/buf.h"
#include "client/render.h"
#include "client/store.h"

#include <jansson.h>

#define TIMELINE_POINTS_MAX 8192

struct timeline_point {
    char point[32];
    int64_t at;
    char user_id[NAME_MAX_LENGTH + 1];
    char device_id[ID_TEXT];
    char detail[ERROR_TEXT_MAX];
    bool local;
};

struct timeline {
    struct timeline_point *points; // in the order of the journey
    size_t n;
    bool from_service; // the service was asked and answered
};

void timeline_init(struct timeline *t);
void timeline_release(struct timeline *t);
// `journey`: the service's answer, or NULL when it could not be asked.
void timeline_fill(struct timeline *t, const struct store_point *local, size_t local_n, const json_t *journey);
bool timeline_has(const struct timeline *t, const char *point);
// Nothing more will happen to it, as far as can be told: read by `readers` people, rejected, expired.
bool timeline_ended(const struct timeline *t, size_t readers);
void timeline_render(const struct timeline *t, struct style style, const char *device_id, struct buf *out);
// Points from `from` on; `previous_at` of the one before, 0 for none.
void timeline_render_point(const struct timeline *t, size_t i, struct style style, const char *device_id,
                           struct buf *out);
json_t *timeline_point_json(const struct timeline_point *p);

#endif
