// Blocking HTTP calls to the service (libcurl). One `struct web` is used by one thread at a time and keeps its
// connection open between calls.
#ifndef BARID_CLIENT_WEB_H
#define BARID_CLIENT_WEB_H

#include "client/answer.h"

#include <stdatomic.h>

struct web;

// `cancel` (may be NULL) makes a running call end soon with ERR_CLOSED; any thread may set it.
struct web *web_new(const char *server, const char *token, const atomic_bool *cancel);
void web_free(struct web *h);
void web_set_token(struct web *h, const char *token);
// At most this long for each call of JSON, ANSWER_TIMEOUT_MS unless set; `extra_ms` for the next call only.
void web_set_timeout(struct web *h, uint32_t timeout_ms);
void web_extra_time(struct web *h, uint32_t extra_ms);
// A crash point to pass when the next request has been written and its answer not yet looked at.
void web_crash_when_sent(struct web *h, const char *point);

// `body` (NULL: none) stays the caller's. Always fills `a`.
void web_call(struct web *h, const char *method, const char *path, const json_t *body, struct answer *a);

// Called as the transfer goes on; total 0: not known.
typedef void web_progress_fn(void *arg, uint64_t done, uint64_t total);

// POST /media of the file, streamed. ERR_NOT_FOUND with status 0: there is none.
void web_upload(struct web *h, const char *file, const char *media_type, const char *filename,
                web_progress_fn *progress, void *arg, struct answer *a);
// GET, the bytes given to `sink` as they come; the status is checked first. `sink` returning false ends it
// with no answer.
typedef bool web_sink_fn(void *arg, const void *data, size_t n);
void web_download(struct web *h, const char *path, web_sink_fn *sink, void *sink_arg, web_progress_fn *progress,
                  void *arg, struct answer *a);

#endif
