// The reader's half of the store: messages of others, with their content.
#ifndef BARID_CLIENT_STORE_INBOX_H
#define BARID_CLIENT_STORE_INBOX_H

#include "client/store.h"

struct in_message {
    char message_id[ID_TEXT];
    char conversation_id[NAME_MAX_LENGTH + 1];
    uint64_t seq;
    char by_user_id[NAME_MAX_LENGTH + 1];
    char *text; // a text, or the next three; all heap
    char *media_type;
    char *filename;   // as the sender called it, NULL: not told
    char *media_path; // where it was saved
    uint64_t bytes;
    bool gone; // deleted before this device could fetch it
    int64_t accepted_at;
    int64_t received_at;
    bool received_told;
    int64_t read_at; // 0: not read
    bool read_told;
};
void in_message_release(struct in_message *m);

// Stores it once; a message that is there already stays as it is, and `*fresh` is false.
enum err store_message_add(struct store *s, const struct in_message *m, bool *fresh, struct error *e);
enum err store_message_get(struct store *s, const char *message_id, struct in_message *out, struct error *e);
enum err store_message_received_told(struct store *s, const char *message_id, struct error *e);
// The intent, durable before the service is told. Reading again changes nothing.
enum err store_message_read(struct store *s, const char *message_id, int64_t at, struct error *e);
enum err store_message_read_told(struct store *s, const char *message_id, struct error *e);
// Ids of messages that were read here and whose reading the service has not heard; returns how many.
size_t store_read_untold(struct store *s, char (*out)[ID_TEXT], size_t max);

enum inbox_filter { INBOX_UNREAD, INBOX_ALL };
// In the order of conversations' latest acceptance, within a conversation by seq.
enum err store_message_each(struct store *s, enum inbox_filter filter, const char *conversation_id,
                            bool (*each)(void *arg, const struct in_message *m), void *arg, struct error *e);

#endif
