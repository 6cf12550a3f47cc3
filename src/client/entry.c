#include "client/entry.h"

#include "client/answer.h"

#include <stdio.h>
#include <string.h>

static enum entry_type type_parse(const char *text) {
    if (!strcmp(text, "message")) return ENTRY_IS_MESSAGE;
    if (!strcmp(text, "delivered")) return ENTRY_IS_DELIVERED;
    if (!strcmp(text, "read")) return ENTRY_IS_READ;
    if (!strcmp(text, "expired")) return ENTRY_IS_EXPIRED;
    return ENTRY_IS_UNKNOWN;
}

// Names become parts of paths and of what is printed: nothing but a valid one is taken.
static bool name_copy(const json_t *object, const char *key, char out[static NAME_MAX_LENGTH + 1]) {
    const char *text = member_text(object, key, "");
    if (!name_valid(text, strlen(text))) return false;
    snprintf(out, NAME_MAX_LENGTH + 1, "%s", text);
    return true;
}

bool mailbox_entry_parse(const json_t *object, int64_t now, struct entry *out) {
    memset(out, 0, sizeof *out);
    out->type = type_parse(member_text(object, "type", ""));
    out->cursor = member_count(object, "cursor");
    if (out->cursor == 0) return false;
    const char *id_text = member_text(object, "message_id", "");
    struct id id;
    if (!id_parse(id_text, strlen(id_text), &id)) {
        out->type = ENTRY_IS_UNKNOWN;
        return true;
    }
    id_format(&id, out->message_id);
    out->seq = member_count(object, "seq");
    out->bytes = member_count(object, "bytes");
    out->media = !strcmp(member_text(object, "kind", ""), "media");
    out->at = member_time(object, out->type == ENTRY_IS_MESSAGE ? "accepted_at" : "at", now);
    bool named = name_copy(object, "conversation_id", out->conversation_id);
    bool by = name_copy(object, "by_user_id", out->by_user_id);
    if (out->type == ENTRY_IS_MESSAGE && (!named || !by)) out->type = ENTRY_IS_UNKNOWN;
    return true;
}
