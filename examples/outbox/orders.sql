-- The order service's own table. barid's are beside it, in the schema barid (`barid migrate`).
create table orders (
    order_id bigint generated always as identity primary key,
    customer text not null,
    item text not null,
    quantity integer not null check (quantity > 0),
    placed_at timestamptz not null default now()
);
