#include "client/label.h"

#include "client/conversation_id.h"

#include <stdio.h>
#include <string.h>

static void join_others(const json_t *members, const char *me, char out[static LABEL_MAX]) {
    size_t i, at = 0;
    const json_t *member;
    json_array_foreach(members, i, member) {
        const char *name = json_string_value(member);
        if (!name || !strcmp(name, me) || at >= LABEL_MAX) continue;
        int n = snprintf(out + at, LABEL_MAX - at, "%s%.64s", at ? ", " : "", name);
        at += n > 0 ? (size_t)n : 0;
    }
}

void label_of(struct client *c, const char *conversation_id, char out[static LABEL_MAX]) {
    struct known_conversation known;
    snprintf(out, LABEL_MAX, "%.64s", conversation_id);
    if (store_conversation(c->store, conversation_id, &known, NULL) == ERR_OK) {
        json_t *members = json_loads(known.members, 0, NULL);
        if (*known.title)
            snprintf(out, LABEL_MAX, "%s", known.title);
        else
            join_others(members, c->profile.user_id, out);
        json_decref(members);
    }
    known_conversation_release(&known);
}

static bool is_of_two(struct client *c, const char *conversation_id, const char *by_user_id) {
    const char *two[] = {c->profile.user_id, by_user_id};
    char derived[CONVERSATION_ID_DERIVED];
    json_t *members = members_sorted(two, 2);
    conversation_id_derive(members, derived);
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
    if (!is_of_two(c, conversation_id, by_user_id)) label_of(c, conversation_id, out);
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
