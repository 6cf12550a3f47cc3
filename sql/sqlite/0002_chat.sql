-- The messaging service. Times are milliseconds since 1970.
--
-- Inside, everything is named by small integers (uid, did, cid, mid); the names that people and clients know are
-- columns of one row each. The journey of a message is read from the columns in which its safe points are kept:
-- there is no second record of it that could disagree.

create table account (
    uid integer primary key,
    user_id text not null unique,
    display_name text,
    password text not null,                 -- argon2id, in its own text form
    created_at integer not null,
    held_bytes integer not null default 0   -- media uploaded and not yet delivered, for the quota
);

-- A session is a device. It is live while it has a token. A device that logged out keeps its row (journeys name it,
-- it may come back) and its counter, so that its cursors never repeat, until the last message it can have had is gone.
create table device (
    did integer primary key autoincrement,
    uid integer not null,
    device_id blob not null unique,
    name text,
    token_hash blob unique,
    expires_at integer not null,            -- when it ended, once it has
    created_at integer not null,
    seen_at integer not null,
    last_cursor integer not null default 0
);
create index device_of_user on device (uid) where token_hash is not null; -- few, however often somebody logs in
create index device_by_expiry on device (expires_at) where token_hash is not null;
create index device_ended on device (expires_at) where token_hash is null;

create table conversation (
    cid integer primary key,
    conversation_id text not null unique,
    title text,
    created_by integer not null,
    created_at integer not null,
    last_seq integer not null default 0,
    member_count integer not null
);

create table member (
    cid integer not null,
    uid integer not null,
    primary key (cid, uid)
) without rowid;
create index member_by_user on member (uid);

-- The row outlives the content: it is the tombstone that answers a late retry.
create table message (
    mid integer primary key,
    message_id blob not null unique,
    cid integer not null,
    seq integer not null,
    sender_uid integer not null,
    sender_did integer not null,
    kind integer not null,                  -- 0 text, 1 media
    bytes integer not null,
    digest blob not null,                   -- of what the request asked for: the same again is a duplicate
    created_at integer,                     -- by the sender's clock
    accepted_at integer not null,
    published_at integer,
    deleted_at integer,
    expired_at integer,
    open integer not null,                  -- recipients who have it on no device yet
    claims integer not null default 0,      -- open rows of device_delivery
    media_hash blob,
    media_type text,
    filename text
);

-- A row for every message whose content is still here, oldest first; the text itself, null for media.
create table content (
    mid integer primary key,
    text blob
);

-- One row a recipient, decided at acceptance.
create table delivery (
    mid integer not null,
    uid integer not null,
    received_at integer,
    read_at integer,
    expired_at integer,
    primary key (mid, uid)
) without rowid;

-- One row a recipient's device. While open = 1 the device has a claim on the content. A recipient without any
-- device is held by a row with did = -uid, which the first device to log in takes over.
create table device_delivery (
    mid integer not null,
    did integer not null,
    queued_at integer,
    notified_at integer,
    received_at integer,
    open integer not null,
    primary key (mid, did)
) without rowid;
create index device_delivery_open on device_delivery (did) where open = 1;

create table mailbox (
    did integer not null,
    cursor integer not null,
    type integer not null,                  -- enum chat_entry_type
    mid integer not null,
    by_uid integer not null,
    at integer not null,
    primary key (did, cursor)
) without rowid;

-- refs: messages whose content is still here, and tickets.
create table media (
    hash blob primary key,
    bytes integer not null,
    refs integer not null
) without rowid;

create table ticket (
    ticket_hash blob primary key,
    uid integer not null,
    hash blob not null,
    bytes integer not null,
    media_type text not null,
    filename text,
    expires_at integer not null
) without rowid;
create index ticket_by_expiry on ticket (expires_at);

-- What happened off the road: retried, parked.
create table journey_note (
    note_id integer primary key,
    mid integer not null,
    point text not null,
    at integer not null,
    detail text
);
create index journey_note_by_message on journey_note (mid);
