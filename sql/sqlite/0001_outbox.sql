-- Outbox: events waiting to be published, written by the transaction whose change they tell of and deleted
-- once the bus has confirmed them. AUTOINCREMENT: an id is never used again, so ids are the order of storing
-- and the producer may remember how far it has read.
create table outbox (
    id integer primary key autoincrement,
    event_id blob not null unique,
    topic text not null,
    key text not null,
    payload blob not null,
    stored_at integer not null,           -- milliseconds since 1970, as every time here
    attempts integer not null default 0,
    state integer not null default 0,     -- 0 waiting, 1 parked
    next_at integer not null default 0,   -- not to be tried before
    error text,                           -- of the last attempt
    parked_at integer
);

create index outbox_parked on outbox (id) where state = 1;

-- Inbox: which events a consumer has taken in, so that a second delivery has no second effect.
create table inbox (
    consumer text not null,
    event_id blob not null,
    at integer not null,
    primary key (consumer, event_id)
) without rowid;

create index inbox_at on inbox (at);
