"""What the messaging service's tables on PostgreSQL say of each other whenever nothing is under way.

    assert not broken(parts)                 # a Distributed (support/parts.py)
"""
DEVICES_MAX = 16

# What must hold whenever nothing is under way: a query, which counts what breaks it.
INVARIANTS = {
    "claims are the open rows": """
        select count(*) from barid.message m where m.claims <>
        (select count(*) from barid.device_delivery q where q.mid = m.mid and q.open = 1)""",
    "open is the recipients without it": """
        select count(*) from barid.message m where m.open <>
        (select count(*) from barid.delivery x where x.mid = m.mid and x.received_at is null)""",
    "a content is there while somebody is to get it, and no longer": """
        select count(*) from barid.message m where
        exists (select 1 from barid.content t where t.mid = m.mid) <> (m.open > 0 or m.claims > 0)""",
    "what has no content was deleted": """
        select count(*) from barid.message m where
        exists (select 1 from barid.content t where t.mid = m.mid) <> (m.deleted_at is null)""",
    "cursors have no gaps": """
        select count(*) from (select b.did, max(b.cursor) - min(b.cursor) + 1 - count(*) as gap, max(b.cursor) as last
        from barid.mailbox b group by b.did) g join barid.device d on d.did = g.did
        where g.gap <> 0 or g.last <> d.last_cursor""",
    "no message is in a mailbox twice": """
        select count(*) from (select did, mid from barid.mailbox where type = 0 group by did, mid having count(*) > 1) d""",
    "every live device has every message that its user has not received": """
        select count(*) from barid.delivery x join barid.device d on d.uid = x.uid and d.token_hash is not null
        where x.received_at is null and not exists
        (select 1 from barid.device_delivery q where q.mid = x.mid and q.did = d.did)""",
    "every live device got what was accepted while it lived": """
        select count(*) from barid.delivery x join barid.message m on m.mid = x.mid
        join barid.device d on d.uid = x.uid and d.token_hash is not null and d.created_at < m.accepted_at
        where not exists (select 1 from barid.device_delivery q where q.mid = x.mid and q.did = d.did)""",
    "who has a device is not held by a row for nobody": """
        select count(*) from barid.device_delivery q where q.did < 0 and q.open = 1
        and exists (select 1 from barid.device d where d.uid = -q.did and d.token_hash is not null)""",
    "nothing is held by a device that is gone": """
        select count(*) from barid.device_delivery q join barid.device d on d.did = q.did
        where q.open = 1 and d.token_hash is null""",
    "seq has no gaps": """
        select count(*) from barid.conversation v where v.last_seq <>
        (select count(*) from barid.message m where m.cid = v.cid)""",
    "nobody has too many devices": f"""
        select count(*) from (select uid from barid.device where token_hash is not null group by uid
        having count(*) > {DEVICES_MAX}) d""",
}


def broken(parts):
    """{what does not hold: how often}"""
    return {what: n for what, n in ((what, parts.value(sql)) for what, sql in INVARIANTS.items()) if n}
