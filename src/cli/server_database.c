#include "cli/server_database.h"

#include "access/access.h"
#include "chat/chat.h"
#include "outbox/outbox.h"

const struct migration server_migrations[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[0]},
    {.number = 2, .name = "chat", .file = &chat_files[0]},
    {.number = 3, .name = "access", .file = &access_files[0]},
    {0},
};
