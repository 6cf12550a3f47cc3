// The service's answer to one request, however it travelled (HTTP or socket), and what it means for a retry.
//
//   2xx                                                  done
//   no answer in time, network errors, 408 425 429 5xx   later: again with full jitter, Retry-After is a floor
//   401                                                  login: nothing is wrong with the request; log in first
//   any other                                            no: never again
#ifndef BARID_CLIENT_ANSWER_H
#define BARID_CLIENT_ANSWER_H

#include "base/backoff.h"
#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define ANSWER_TIMEOUT_MS 10000

struct answer {
    int status;              // of HTTP; 0: there was no answer, and `error` says why
    json_t *body;            // NULL when there was none
    uint32_t retry_after_ms; // 0: not told
    struct error error;      // of an answer that is not 2xx: a sentence, and the field it is about
};

void answer_release(struct answer *a);
void answer_none(struct answer *a, enum err code, const char *why); // no answer
// Takes over `body`; reads the error object {"code","field","reason"} out of it when the status is no 2xx.
void answer_set(struct answer *a, int status, json_t *body, uint32_t retry_after_ms);

enum verdict { VERDICT_DONE, VERDICT_LATER, VERDICT_LOGIN, VERDICT_NO };
enum verdict answer_verdict(const struct answer *a);
// The delay before the next try, `attempts` being how many there have been (1 or more).
uint32_t answer_delay(const struct answer *a, struct io *io, uint32_t attempts);

// Members of a JSON object, with a value for what is absent or of another type.
const char *member_text(const json_t *object, const char *key, const char *otherwise);
uint64_t member_count(const json_t *object, const char *key);
int64_t member_time(const json_t *object, const char *key, int64_t otherwise); // an RFC 3339 string

#endif
