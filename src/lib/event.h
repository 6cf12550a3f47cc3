// What barid.h keeps to itself of an event.
#ifndef BARID_LIB_EVENT_H
#define BARID_LIB_EVENT_H

#include "barid.h"

struct header {
    char *name, *value;
};

struct barid_event {
    char *topic, *key, *id; // key, id: NULL, none
    unsigned char *payload;
    size_t length;
    struct header *headers;
    size_t header_count;
};

#define HEADERS_MAX 256

// The headers as a JSON object of strings, to be freed; NULL: no memory. Without headers: NULL and *none.
char *event_headers_json(const barid_event *e, int *none);

#endif
