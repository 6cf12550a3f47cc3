// Telling the service what was read: the intent is in the store first, so that it is told in the end.
#include "base/io.h"
#include "client/live_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH       64
#define RETRY_AS_IF 4 // up to 4 s: reads are told together, so there is no count of attempts for one

struct reading {
    struct live *live;
    char message_id[ID_TEXT];
};

static void on_answer(void *arg, struct answer *a) {
    struct reading *r = arg;
    struct live *l = r->live;
    enum verdict verdict = answer_verdict(a);
    struct error e = {0};
    if (verdict == VERDICT_DONE || verdict == VERDICT_NO) store_message_read_told(l->c->store, r->message_id, &e);
    if (e.code) live_trouble(l, &e);
    if (verdict == VERDICT_LATER || e.code)
        l->read_after_ms = loop_now_ms(l->o.loop) + answer_delay(a, l->c->io, RETRY_AS_IF);
    l->reading--;
    free(r);
    if (l->reading == 0 && l->open) live_read_untold(l);
    if (l->open) live_check_done(l);
}

void live_read_untold(struct live *l) {
    char ids[BATCH][ID_TEXT];
    if (l->reading > 0 || loop_now_ms(l->o.loop) < l->read_after_ms) return;
    size_t n = store_read_untold(l->c->store, ids, BATCH);
    for (size_t i = 0; i < n; i++) {
        struct reading *r = calloc(1, sizeof *r);
        if (!r) return;
        r->live = l;
        snprintf(r->message_id, sizeof r->message_id, "%.36s", ids[i]);
        json_t *frame = json_pack("{s:s, s:s}", "type", "read", "message_id", ids[i]);
        if (!uplink_request(l->uplink, frame, NULL, on_answer, r)) {
            free(r);
            return;
        }
        l->reading++;
    }
}

void live_read_message(struct live *l, const char *message_id) {
    struct error e = {0};
    if (store_message_read(l->c->store, message_id, io_wall_ms(l->c->io), &e)) live_trouble(l, &e);
    if (l->open) live_read_untold(l);
}
