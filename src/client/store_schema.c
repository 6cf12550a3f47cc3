#include "client/store_schema.h"

// account        one row: who this device is, its token, and how far its mailbox has been stored (cursor)
// conversation   what we know of each; made = 0: the service has still to be asked to make it
// outbox         messages of our own, in the order they were written; a row stays as history once accepted
// message        messages of others; received_told / read_told = 0 are intents that the service has still to hear
// receipt        what came back for our own messages: delivered, read, expired
// point          safe points as this device saw them, for `barid track` without a connection
static const char *const first =
    "create table account ("
    "  id integer primary key check (id = 1), server text not null, user_id text not null,"
    "  display_name text, device_id text, token text, cursor integer not null default 0) strict;"
    "create table conversation ("
    "  conversation_id text primary key, title text, members text not null,"
    "  made integer not null) strict, without rowid;"
    "create table outbox ("
    "  position integer primary key autoincrement, message_id text not null unique,"
    "  conversation_id text not null, message_text text, media_path text, media_type text, filename text,"
    "  ticket text, ticket_at integer not null default 0,"
    "  state text not null default 'created'"
    "    check (state in ('created', 'sending', 'accepted', 'rejected')),"
    "  seq integer, attempts integer not null default 0, next_at integer not null default 0,"
    "  floor_at integer not null default 0, error text, created_at integer not null, accepted_at integer,"
    "  check ((message_text is null) <> (media_path is null))) strict;"
    "create index outbox_waiting on outbox (conversation_id, position)"
    "  where state in ('created', 'sending');"
    "create table message ("
    "  message_id text primary key, conversation_id text not null, seq integer not null,"
    "  by_user_id text not null, message_text text, media_type text, filename text, bytes integer not null,"
    "  media_path text, gone integer not null, accepted_at integer not null, received_at integer not null,"
    "  received_told integer not null default 0, read_at integer,"
    "  read_told integer not null default 0) strict;"
    "create index message_order on message (conversation_id, seq);"
    "create index message_unread on message (received_at) where read_at is null;"
    "create index message_read_untold on message (read_at) where read_at is not null and read_told = 0;"
    "create table receipt ("
    "  message_id text not null, kind text not null, by_user_id text not null, at integer not null,"
    "  primary key (message_id, kind, by_user_id)) strict, without rowid;"
    "create table point ("
    "  message_id text not null, point text not null, at integer not null, detail text,"
    "  primary key (message_id, point)) strict, without rowid;";

const char *const store_migrations[] = {first, 0};
const int store_migration_count = sizeof store_migrations / sizeof *store_migrations - 1;
