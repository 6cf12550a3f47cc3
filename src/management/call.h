// One request of the management API, from its head to its answer.
//
//   head ─> route ─> who is it (auth.c) ─> may they (routes.c) ─> body complete ─> handler ─> answer
//
// It is answered exactly once, now or on a later turn of the loop; while it waits its connection is suspended. A call
// whose connection ended with the server is freed when it is answered.
#ifndef BARID_MANAGEMENT_CALL_H
#define BARID_MANAGEMENT_CALL_H

#include "access/access.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "engine/engine.h"

#include <jansson.h>

#define CALL_PARAMS   5
#define CALL_BODY_MAX 20000000
#define CALL_OUT_MAX  (64 << 20)

struct door;
struct management;
struct MHD_Connection;
struct manage_route;

struct call {
    struct list_node node; // of the door
    struct loop_post post; // a handler's, while it waits
    struct door *door;
    struct management *management;
    struct MHD_Connection *connection; // NULL: it ended first
    char *path;                        // as it came, percent-encoded
    char method[12];
    char address[48];
    const struct manage_route *route;
    char *params[CALL_PARAMS];      // of the route's pattern, decoded
    const struct access_user *user; // held
    struct vhost *vhost;            // when the route names one
    struct buf body, out;
    json_t *json; // of the body, after call_json
    int status;   // of the answer, when `answered`
    const char *type;
    char *location;
    bool admitted, reading, handled, answered, suspended, too_large;
};

// ---- asking
const char *call_param(const struct call *c, const char *name); // "vhost" of {vhost}; NULL: the route has none
const char *call_header(const struct call *c, const char *name);
// Decoded, to be freed; NULL: not there.
char *call_query(const struct call *c, const char *name);
bool call_flag(const struct call *c, const char *name); // ?name=true
// The body as an object: empty and null are an empty one. NULL: it is not one, and that is answered.
json_t *call_json(struct call *c);
// %XX decoded, in place; false: damaged, or a NUL.
bool call_decode(char *text);

// Values of a body as RabbitMQ reads them: "true" is true, "12" is 12.
bool json_bool_or(const json_t *o, const char *key, bool otherwise);
bool json_int_of(const json_t *v, int64_t *out);
const char *json_text_or(const json_t *o, const char *key, const char *otherwise);

// ---- answering
void call_answer(struct call *c, int status); // with what is in `out`, JSON
void call_answer_as(struct call *c, int status, const char *type);
void call_empty(struct call *c, int status); // 201, 204
void call_fail(struct call *c, int status, const char *error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void call_bad_request(struct call *c, const struct error *e);
void call_error(struct call *c, const struct error *e); // status and name by what the error means
void call_not_found(struct call *c, const char *what);  // "queue"
void call_refused(struct call *c);                      // 401: no permission for it
void call_durable(struct call *c, int status);          // call_empty, as soon as all that was done is durable

// May the caller do that to it? False: refused, and that is answered.
bool call_may(struct call *c, enum access_kind kind, const char *resource);

// ---- door.c
void call_go_on(struct call *c);   // admitted: the body may come
void call_deliver(struct call *c); // it has been answered
void call_free(struct call *c);

#endif
