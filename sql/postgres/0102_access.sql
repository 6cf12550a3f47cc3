-- Who may use the broker.
--
-- The passwords are hashed: argon2id in its own text form, or a hash of RabbitMQ's that came with a definitions file.

create table barid.broker_user (
    name text collate "C" primary key,
    hash text,                                           -- null: nobody can log in with a password
    hash_algorithm text,
    tags text not null                                   -- 'administrator,monitoring'
);

create table barid.broker_vhost (
    name text collate "C" primary key,
    description text not null,
    tags text not null,
    tracing integer not null default 0
);

-- Regular expressions over the names of exchanges and queues; the empty one allows nothing.
create table barid.broker_permission (
    user_name text collate "C" not null references barid.broker_user (name) on delete cascade,
    vhost_name text collate "C" not null references barid.broker_vhost (name) on delete cascade,
    configure text not null,
    write text not null,
    read text not null,
    primary key (user_name, vhost_name)
);
create index broker_permission_of_vhost on barid.broker_permission (vhost_name);

-- What a new broker begins with, as RabbitMQ's users expect it. The password is guest, known to all, which is why guest
-- is let in from loopback only; it is made here once, so that it does not come back after it was deleted.
insert into barid.broker_vhost (name, description, tags) values ('/', 'Default virtual host', '');
insert into barid.broker_user (name, hash, hash_algorithm, tags) values (
    'guest', '$argon2id$v=19$m=19456,t=2,p=1$dZXYneU1ubTo5yDwuznfFQ$Tj14FDXqwIrPkQp5EwDD6n0Pbor9mKosYjq9p5+Q+H0', 'argon2id',
    'administrator');
insert into barid.broker_permission (user_name, vhost_name, configure, write, read) values ('guest', '/', '.*', '.*', '.*');
