#include "client/label.h"

#include "client/members.h"

#include <stdio.h>
#include <string.h>

#define LEARN_TIMEOUT_MS 1000

// All but one or two of them.
static void join_others(const json_t *members, const char *me, const char *sender, char out[static LABEL_MAX]) {
    size_t i, at = 0;
    const json_t *member;
    json_array_foreach(members, i, member) {
        const char *name = json_string_value(member);
        if (!name || !strcmp(name, me) || (sender && !strcmp(name, sender)) || at >= LABEL_MAX) continue;
        int n = snprintf(out + at, LABEL_MAX - at, "%s%.64s", at ? ", " : "", name);
        at += n > 0 ? (size_t)n : 0;
    }
}

static void describe(struct client *c, const char *conversation_id, const char *sender, const char *in,
                     const char *with, char out[static LABEL_MAX]) {
    struct known_conversation known;
    char others[LABEL_MAX] = "";
    snprintf(out, LABEL_MAX, "%s%.64s", in, conversation_id);
    if (store_conversation(c->store, conversation_id, &known, NULL) == ERR_OK) {
        json_t *members = json_loads(known.members, 0, NULL);
        join_others(members, c->profile.user_id, sender, others);
        if (*known.title) snprintf(out, LABEL_MAX, "%s%.240s", in, known.title);
        else if (*others) snprintf(out, LABEL_MAX, "%s%.240s", with, others);
        json_decref(members);
    }
    known_conversation_release(&known);
}

void label_of(struct client *c, const char *conversation_id, char out[static LABEL_MAX]) {
    describe(c, conversation_id, NULL, "", "", out);
}

static bool is_of_two(struct client *c, const char *conversation_id, const char *by_user_id) {
    const char *two[] = {c->profile.user_id, by_user_id};
    char derived[CONVERSATION_ID_DERIVED];
    json_t *members = members_sorted(two, 2);
    members_derive_id(members, derived);
    json_decref(members);
    if (!strcmp(derived, conversation_id)) return true;
    struct known_conversation known;
    bool of_two = false;
    if (store_conversation(c->store, conversation_id, &known, NULL) == ERR_OK && !*known.title) {
        members = json_loads(known.members, 0, NULL);
        of_two = json_array_size(members) == 2;
        json_decref(members);
    }
    known_conversation_release(&known);
    return of_two;
}

void label_beside(struct client *c, const char *conversation_id, const char *by_user_id, char out[static LABEL_MAX]) {
    out[0] = 0;
    if (!is_of_two(c, conversation_id, by_user_id)) describe(c, conversation_id, by_user_id, "in ", "with ", out);
}

static size_t count_readers(struct client *c, const char *conversation_id) {
    struct known_conversation known;
    size_t members = 2;
    if (store_conversation(c->store, conversation_id, &known, NULL) == ERR_OK) {
        json_t *list = json_loads(known.members, 0, NULL);
        if (json_array_size(list) > 0) members = json_array_size(list);
        json_decref(list);
    }
    known_conversation_release(&known);
    return members > 1 ? members - 1 : 1;
}

enum tick label_tick(struct client *c, const struct out_message *m, size_t *reads, size_t *readers) {
    *readers = count_readers(c, m->conversation_id);
    *reads = store_receipt_count(c->store, m->message_id, RECEIPT_READ);
    if (m->state != OUT_ACCEPTED) return tick_of(m, m->error ? 1 : 0);
    if (*reads >= *readers) return TICK_READ;
    if (store_receipt_count(c->store, m->message_id, RECEIPT_DELIVERED)) return TICK_DELIVERED;
    return store_receipt_count(c->store, m->message_id, RECEIPT_EXPIRED) ? TICK_EXPIRED : TICK_SENT;
}

void label_learn(struct client *c) {
    struct answer a;
    web_call(c->web, "GET", "/conversation", NULL, &a);
    size_t i;
    const json_t *conversation;
    json_array_foreach(json_object_get(a.body, "conversations"), i, conversation)
        client_learn_conversation(c, conversation, NULL);
    answer_release(&a);
}

void label_learn_about(struct client *c, const char *conversation_id, const char *by_user_id) {
    struct known_conversation known;
    bool is_known = store_conversation(c->store, conversation_id, &known, NULL) != ERR_NOT_FOUND;
    known_conversation_release(&known);
    if (is_known || is_of_two(c, conversation_id, by_user_id)) return;
    char path[128];
    struct answer a;
    snprintf(path, sizeof path, "/conversation/%.64s", conversation_id);
    web_set_timeout(c->web, LEARN_TIMEOUT_MS);
    web_call(c->web, "GET", path, NULL, &a);
    web_set_timeout(c->web, ANSWER_TIMEOUT_MS);
    if (answer_verdict(&a) == VERDICT_DONE) client_learn_conversation(c, a.body, NULL);
    answer_release(&a);
}
