#include "cli/server_database.h"

#include "access/access.h"
#include "chat/chat.h"
#include "datastore/datastore.h"
#include "outbox/outbox.h"

const struct migration server_migrations[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[0]},
    {.number = 2, .name = "chat", .file = &chat_files[0]},
    {.number = 3, .name = "access", .file = &access_files[0]},
    {0},
};

const struct migration server_postgres_migrations[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[1]},
    {.number = 101, .name = "chat", .file = &chat_files[1]},
    {.number = 102, .name = "access", .file = &access_files[1]},
    {.number = 103, .name = "datastore", .file = &datastore_migrations[0]},
    {0},
};
