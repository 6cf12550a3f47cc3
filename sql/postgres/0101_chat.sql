-- The messaging service on PostgreSQL: the twin of sql/sqlite/0002_chat.sql, which says what each table is for. Several
-- servers work on it at once; in which order they lock rows is written in docs/decisions/0013.
--
-- Times are milliseconds since 1970 as on SQLite, but for the servers' leases, which are the database's own clock's.

create table barid.account (
    uid bigint generated always as identity primary key,
    user_id text not null unique,
    display_name text,
    password text not null,
    created_at bigint not null
);

-- Media uploaded and not yet delivered. Apart from the account: a row of `account` is the lock on a user's devices, and is
-- taken first of all; this one is counted last of all.
create table barid.quota (
    uid bigint primary key,
    held_bytes bigint not null
) with (fillfactor = 80);

-- home: the server (barid.server) to which the device has its link, poll_home: the one at which it waited last. Whoever
-- writes an entry into its mailbox tells them. home_epoch counts its links, so that the older one gives way.
create table barid.device (
    did bigint generated always as identity primary key,
    uid bigint not null,
    device_id bytea not null unique,
    name text,
    token_hash bytea unique,
    expires_at bigint not null,
    created_at bigint not null,
    seen_at bigint not null,
    last_cursor bigint not null default 0,
    home bigint,
    poll_home bigint,
    home_epoch bigint not null default 0
) with (fillfactor = 70);
create index device_of_user on barid.device (uid) where token_hash is not null;
create index device_by_expiry on barid.device (expires_at) where token_hash is not null;
create index device_ended on barid.device (expires_at) where token_hash is null;

create table barid.conversation (
    cid bigint generated always as identity primary key,
    conversation_id text not null unique,
    title text,
    created_by bigint not null,
    created_at bigint not null,
    last_seq bigint not null default 0,
    member_count bigint not null
) with (fillfactor = 80);

create table barid.member (
    cid bigint not null,
    uid bigint not null,
    primary key (cid, uid)
);
create index member_by_user on barid.member (uid);

create table barid.message (
    mid bigint generated always as identity primary key,
    message_id bytea not null unique,
    cid bigint not null,
    seq bigint not null,
    sender_uid bigint not null,
    sender_did bigint not null,
    kind smallint not null,
    bytes bigint not null,
    digest bytea not null,
    created_at bigint,
    accepted_at bigint not null,
    published_at bigint,
    deleted_at bigint,
    expired_at bigint,
    open bigint not null,
    claims bigint not null default 0,
    media_hash bytea,
    media_type text,
    filename text
) with (fillfactor = 80);

create table barid.content (
    mid bigint primary key,
    text bytea
);

create table barid.delivery (
    mid bigint not null,
    uid bigint not null,
    received_at bigint,
    read_at bigint,
    expired_at bigint,
    primary key (mid, uid)
) with (fillfactor = 80);

create table barid.device_delivery (
    mid bigint not null,
    did bigint not null,
    queued_at bigint,
    notified_at bigint,
    received_at bigint,
    open smallint not null,
    primary key (mid, did)
);
create index device_delivery_open on barid.device_delivery (did) where open = 1;

create table barid.mailbox (
    did bigint not null,
    cursor bigint not null,
    type smallint not null,
    mid bigint not null,
    by_uid bigint not null,
    at bigint not null,
    primary key (did, cursor)
);

create table barid.media (
    hash bytea primary key,
    bytes bigint not null,
    refs bigint not null
);

create table barid.ticket (
    ticket_hash bytea primary key,
    uid bigint not null,
    hash bytea not null,
    bytes bigint not null,
    media_type text not null,
    filename text,
    expires_at bigint not null
);
create index ticket_by_expiry on barid.ticket (expires_at);

create table barid.journey_note (
    note_id bigint generated always as identity primary key,
    mid bigint not null,
    point text not null,
    at bigint not null,
    detail text
);
create index journey_note_by_message on barid.journey_note (mid);

-- The servers that are up, each with a lease by the database's clock. Numbers are never given twice. `alone`: it keeps
-- something on its own disk (the bus, the media) that no other server would see.
create table barid.server (
    server_id bigint generated always as identity primary key,
    name text not null,
    alone boolean not null,
    started_at timestamptz not null default clock_timestamp(),
    lease_until timestamptz not null
);

-- Mailboxes and claims come and go with every message: vacuum by number, not by share of the table, and without pauses.
alter table barid.mailbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_cost_delay = 0);
alter table barid.content set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000, autovacuum_vacuum_cost_delay = 0);
alter table barid.device set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
alter table barid.conversation set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
