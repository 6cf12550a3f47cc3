// barid parked --queue: what the broker's queues have parked. Asks the management API.
#include "base/time.h"
#include "cli/broker.h"
#include "cli/cli.h"
#include "cli/parked_help.h"
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

#define PAGE 1000

static const char *vhost_of(const struct broker_command *c) { return c->vhost != NULL ? c->vhost : "/"; }

static void add_row(struct table *t, const json_t *m) {
    char id[24], attempts[16], at[TIME_TEXT];
    snprintf(id, sizeof id, "%lld", (long long)json_integer_value(json_object_get(m, "id")));
    snprintf(attempts, sizeof attempts, "%lld", (long long)json_integer_value(json_object_get(m, "attempts")));
    time_format_ms(json_integer_value(json_object_get(m, "parked_at")), at);
    table_row(t, (const char *[]){id, at, attempts, broker_text(m, "message_id"), broker_text(m, "reason")});
}

// One page after the other: *count is how many the last one had.
static enum err list_page(const struct broker_command *c, struct broker *b, struct table *t, size_t skip, size_t *count,
                          struct error *e) {
    json_t *page, *m;
    size_t i;
    char query[80];
    snprintf(query, sizeof query, "limit=%d&skip=%zu", PAGE, skip);
    enum err err =
        broker_call(b, "GET", (const char *[]){"parked", vhost_of(c), c->queue, "?", query, NULL}, NULL, &page, e);
    if (err != ERR_OK) return err;
    *count = json_array_size(page);
    json_array_foreach(page, i, m) {
        if (c->json) broker_done(c, json_incref(m), " ");
        else add_row(t, m);
    }
    json_decref(page);
    return ERR_OK;
}

static enum err list(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    struct table t;
    size_t skip = 0, count = PAGE;
    enum err err = ERR_OK;
    table_init(&t, 5);
    table_row(&t, (const char *[]){"ID", "PARKED", "ATTEMPTS", "MESSAGE", "REASON"});
    for (; err == ERR_OK && count == PAGE; skip += count) err = list_page(c, b, &t, skip, &count, e);
    if (err == ERR_OK && !c->json) {
        if (skip > 0) table_print(&t);
        else puts("Nothing is parked.");
    }
    table_release(&t);
    return err;
}

static enum err each(const struct broker_command *c, struct broker *b, const char *method, const char *verb,
                     const char *done, char **words, struct error *e) {
    for (; *words != NULL; words++) {
        json_t *answer;
        enum err err = broker_call(b, method, (const char *[]){"parked", vhost_of(c), c->queue, *words, verb, NULL},
                                   NULL, &answer, e);
        json_decref(answer);
        if (err != ERR_OK) return err;
        broker_done(c, json_pack("{s:s, s:s}", "id", *words, "result", done), "%s %s", *words, done);
    }
    return ERR_OK;
}

static enum err retry(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    return each(c, b, "POST", "retry", "retried", words, e);
}

static enum err drop(const struct broker_command *c, struct broker *b, char **words, struct error *e) {
    return each(c, b, "DELETE", NULL, "dropped", words, e);
}

int cli_parked_queue(int argc, char **argv) {
    static const struct broker_verb verbs[] = {{"list", "", 0, 0, list},
                                               {"retry", "ID… or all", 1, BROKER_WORDS_MAX, retry},
                                               {"drop", "ID… or all", 1, BROKER_WORDS_MAX, drop},
                                               {0}};
    struct broker_command c = {.name = "parked", .help = parked_help, .own = OWN_VHOST | OWN_QUEUE};
    return broker_run(&c, verbs, argc, argv);
}
