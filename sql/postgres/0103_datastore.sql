-- Media and other large contents, named by their SHA-256, for any number of servers (src/datastore).
--
--   upload ── its chunks, one transaction each ──> the name, in one transaction ──> an owner, elsewhere ──> gone
--
-- Every time here is the database's own clock.

-- A content on its way in, or the one that got the name: the chunks are its.
create table barid.datastore_upload (
    id bigint generated always as identity primary key,
    written_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

create table barid.datastore_chunk (
    upload bigint not null references barid.datastore_upload (id) on delete cascade,
    n integer not null,                                  -- from 0; all but the last have the same length
    data bytea not null,
    primary key (upload, n)
);
-- Pictures and films are compressed already, and parts of a chunk are read.
alter table barid.datastore_chunk alter column data set storage external;

create table barid.datastore_content (
    hash bytea primary key check (octet_length(hash) = 32),
    upload bigint not null unique references barid.datastore_upload (id),
    bytes bigint not null,
    chunk_bytes integer not null,
    named_at timestamptz not null default clock_timestamp(),
    version bigint not null default 0,                   -- counts when it was named or owned
    holds integer not null default 1,                    -- uploads that named it and have no owner yet
    hold_until timestamptz not null,                     -- after this time holds count no more
    removal_asked boolean not null default false         -- while it was held; owning it takes that back
) with (fillfactor = 50);
create index datastore_removal_asked on barid.datastore_content (hold_until) where removal_asked;

-- Who looks for contents without an owner: one server at a time.
create table barid.datastore_sweep (
    one boolean primary key default true check (one),
    sweeper bytea,
    lease_until timestamptz not null default '-infinity'
);
insert into barid.datastore_sweep default values;
