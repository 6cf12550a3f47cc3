-- Outbox and inbox in an application's own database (docs/outbox.md). Everything is in the schema barid, which the
-- migration has made and put in front of the search path.
--
--   application ── barid.publish() in its own transaction ──> outbox ──> barid relay ──> Kafka or AMQP
--   Kafka or AMQP ──> barid receive ──> inbox, offsets, inbox_queue ──> barid receive ──> the handler
--
-- Every time here is the database's own clock, so that the clocks of the machines around it do not matter.

-- Keys hash to 64 buckets; events of one bucket are in the hands of one process at a time (barid.buckets), which is what
-- keeps the order of a key however many processes there are.
create function barid.bucket_of(key text, event_id uuid) returns smallint
    language sql immutable parallel safe
    as $$ select (hashtextextended(coalesce(key, event_id::text), 0) & 63)::smallint $$;

-- Events waiting to be published: written by the transaction whose change they tell of, deleted once the broker has
-- confirmed them. Nothing is updated on the way but when something fails, so the table stays small and its dead rows are
-- those of what was published since the last vacuum.
--
-- They are read in the order of their ids, whatever their bucket: the newest page of one index is all that is touched,
-- and a relay that has a part of the buckets leaves the other rows aside as it passes.
create table barid.outbox (
    id bigint generated always as identity primary key,
    bucket smallint not null generated always as ((hashtextextended(coalesce(key, event_id::text), 0) & 63)::smallint) stored,
    event_id uuid not null default gen_random_uuid(),
    topic text not null,
    key text,                                            -- events of one key stay in order; null: no order
    payload bytea not null check (octet_length(payload) <= 67108864),  -- a claim must be able to hold it
    headers jsonb,                                       -- an object of strings; null: none
    stored_at timestamptz not null default clock_timestamp(),
    attempts integer not null default 0,
    state smallint not null default 0,                   -- 0 waiting, 1 parked, 2 parked and its key waits for it
    next_at timestamptz,                                 -- not to be tried before
    error text,                                          -- of the last attempt
    parked_at timestamptz
);
create index outbox_parked on barid.outbox (id) where state <> 0;
create index outbox_waiting on barid.outbox (next_at) where next_at is not null;  -- keys that wait for their next attempt
create index outbox_blocked on barid.outbox (key) where state = 2;  -- asked at every claim, so kept apart and tiny

-- What a consumer has taken in. Insert only; forgotten six to seven days after the event was handled (--remember).
create table barid.inbox (
    consumer text not null,
    event_id uuid not null,
    received_at timestamptz not null default clock_timestamp(),
    primary key (consumer, event_id)
);
create index inbox_received on barid.inbox (received_at);

-- Taken in and not yet handled: the outbox's twin on the other side.
create table barid.inbox_queue (
    consumer text not null,
    id bigint generated always as identity,
    bucket smallint not null generated always as ((hashtextextended(coalesce(key, event_id::text), 0) & 63)::smallint) stored,
    event_id uuid not null,
    topic text not null,
    key text,
    payload bytea not null,
    headers jsonb,
    stored_at timestamptz not null default clock_timestamp(),  -- when it was received
    published_at timestamptz,                                  -- by the broker's clock
    place text,                                                -- 'orders/3@1742'
    attempts integer not null default 0,
    state smallint not null default 0,
    next_at timestamptz,
    error text,
    parked_at timestamptz,
    primary key (consumer, id)
);
create index inbox_queue_parked on barid.inbox_queue (consumer, id) where state <> 0;
create index inbox_queue_waiting on barid.inbox_queue (consumer, next_at) where next_at is not null;
create index inbox_queue_blocked on barid.inbox_queue (consumer, key) where state = 2;

-- How far a consumer has read in Kafka, written in the transaction that takes the events in. It wins over what Kafka has.
create table barid.offsets (
    consumer text not null,
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    parked bigint not null default 0,  -- events that could not be stored, and are parked on the bus
    updated_at timestamptz not null default clock_timestamp(),
    primary key (consumer, topic, partition)
);

-- Who has which bucket of which queue ('outbox', or 'inbox:' and the consumer's name). A lease, not a lock: it holds
-- behind any pooler, and a process that is frozen loses it.
create table barid.buckets (
    queue text not null,
    bucket smallint not null,
    owner uuid,
    owner_name text,
    lease_until timestamptz,
    primary key (queue, bucket)
) with (fillfactor = 50);

-- Who is there to share the buckets with.
create table barid.members (
    queue text not null,
    member uuid not null,
    name text not null,
    seen_until timestamptz not null,
    awake boolean,   -- it looks for new rows by itself, and needs no notices; null: it has not said
    settings text,   -- on which all members of the queue that are alive must agree; null: none
    away text,       -- why it gets rid of nothing; null: it does
    primary key (queue, member)
) with (fillfactor = 50);

-- Rows come and go by the thousand a second: vacuum by number, not by share of the table, and without pauses.
alter table barid.outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
alter table barid.inbox_queue set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);
alter table barid.inbox set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

-- A transaction takes its number before it takes an id, also when storing an event is the first thing it writes. So whoever
-- may still come with an older id is among the transactions that a snapshot knows of, and the relay needs no guess of how long
-- to wait for it.
create function barid.number_transaction() returns trigger language plpgsql as $$
begin
    perform pg_current_xact_id();
    return null;
end $$;
create trigger outbox_number before insert on barid.outbox for each statement execute function barid.number_transaction();

-- One empty notice a transaction, never one a row: its first statement decides, which is as good as each (it has its number by
-- then), and the others are spared the question.
--
-- PostgreSQL commits transactions that have sent a notice one after the other, so none is sent while all who would hear it
-- are awake. A transaction of another isolation level sees members as they were when it began, and sends one always.
create function barid.notify_outbox() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if current_setting('transaction_isolation') <> 'read committed'
            or exists (select from barid.members where queue = 'outbox' and awake is not true) then
        perform pg_notify('barid_outbox', '');
    end if;
    perform set_config('barid.told', '1', true);  -- taken back with the savepoint that the notice would be taken back with
    return null;
end $$;
create trigger outbox_notify after insert on barid.outbox for each statement
    when (current_setting('barid.told', true) is distinct from '1') execute function barid.notify_outbox();

create function barid.notify_inbox() returns trigger language plpgsql as $$
begin
    perform pg_notify('barid_inbox', '');
    return null;
end $$;
create trigger inbox_notify after insert on barid.inbox_queue for each statement execute function barid.notify_inbox();

-- Stores an event in the caller's transaction, and gives its id. What cannot be published is refused here, where the
-- application still can do something about it.
create function barid.publish(topic text, key text, payload bytea, headers jsonb default null, event_id uuid default null)
    returns uuid language plpgsql security definer set search_path = barid, pg_temp as $$
declare
    new_id uuid := coalesce(event_id, gen_random_uuid());
begin
    if topic is null or topic !~ '^[A-Za-z0-9._-]+$' or length(topic) > 249 or topic in ('.', '..') then
        raise exception 'barid.publish: a topic has 1 to 249 of the characters A-Z a-z 0-9 . _ -, not %',
            coalesce(quote_literal(left(topic, 300)), 'null') using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(key) > 255 then
        raise exception 'barid.publish: a key has at most 255 bytes' using errcode = 'invalid_parameter_value';
    end if;
    if payload is null then
        raise exception 'barid.publish: the payload is null' using errcode = 'null_value_not_allowed';
    end if;
    if octet_length(payload) > 67108864 then
        raise exception 'barid.publish: a payload has at most 64 MiB' using errcode = 'invalid_parameter_value';
    end if;
    if headers is not null and (jsonb_typeof(headers) <> 'object'
            or exists (select from jsonb_each(headers) h where jsonb_typeof(h.value) <> 'string')) then
        raise exception 'barid.publish: headers are an object of strings' using errcode = 'invalid_parameter_value';
    end if;
    insert into barid.outbox (event_id, topic, key, payload, headers)
        values (new_id, publish.topic, publish.key, publish.payload, publish.headers);
    return new_id;
end $$;

create function barid.publish(topic text, key text, payload text, headers jsonb default null, event_id uuid default null)
    returns uuid language sql as $$ select barid.publish(topic, key, convert_to(payload, 'UTF8'), headers, event_id) $$;

create function barid.publish(topic text, key text, payload jsonb, headers jsonb default null, event_id uuid default null)
    returns uuid language sql as $$ select barid.publish(topic, key, convert_to(payload::text, 'UTF8'), headers, event_id) $$;

-- Stores what cannot be published, marked: nothing picks it up by itself, `barid parked` shows it with the error. What the
-- table cannot hold of it is left out.
create function barid.park(topic text, key text, payload bytea, headers jsonb, event_id uuid, error text)
    returns uuid language plpgsql security definer set search_path = barid, pg_temp as $$
declare
    new_id uuid := coalesce(event_id, gen_random_uuid());
begin
    insert into barid.outbox (event_id, topic, key, payload, headers, attempts, state, error, parked_at)
        values (new_id, coalesce(park.topic, ''), park.key, coalesce(park.payload, ''), park.headers, 1, 1,
                coalesce(park.error, 'parked by the application'), clock_timestamp());
    return new_id;
end $$;

-- barid.publish for who must not fail over an event: one that is not valid is parked, and `error` says why. Null: it will
-- be published. Costs a subtransaction an event.
create function barid.publish_or_park(topic text, key text, payload bytea, headers jsonb default null,
        in_event_id uuid default null, out event_id uuid, out error text)
    language plpgsql as $$
begin
    event_id := barid.publish(topic, key, payload, headers, in_event_id);
exception when data_exception or integrity_constraint_violation or program_limit_exceeded then
    error := sqlerrm;
    event_id := barid.park(topic, key, payload, headers, in_event_id, sqlerrm);
end $$;
create function barid.publish_or_park(topic text, key text, payload text, headers jsonb default null,
        in_event_id uuid default null, out event_id uuid, out error text)
    language sql as $$ select * from barid.publish_or_park(topic, key, convert_to(payload, 'UTF8'), headers, in_event_id) $$;
create function barid.publish_or_park(topic text, key text, payload jsonb, headers jsonb default null,
        in_event_id uuid default null, out event_id uuid, out error text)
    language sql
    as $$ select * from barid.publish_or_park(topic, key, convert_to(payload::text, 'UTF8'), headers, in_event_id) $$;
