-- The invoice service: a table, and the function that `barid receive` calls for every order. It runs in the transaction
-- that takes the event out of the inbox, so there is one invoice an order, whatever fails in between.
create table invoice (
    invoice_id bigint generated always as identity primary key,
    order_id bigint not null,
    customer text not null,
    cents bigint not null
);

create function write_invoice(event_id uuid, topic text, key text, payload jsonb, headers jsonb) returns void
    language sql as $$
    insert into invoice (order_id, customer, cents)
        values ((payload->>'order_id')::bigint, payload->>'customer', 500 * (payload->>'quantity')::bigint)
$$;
