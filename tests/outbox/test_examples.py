"""examples/outbox/README.md, word for word: its commands in one shell, what they print, and what it says of failures."""
import psycopg2
import pytest

from support.page import Shell, blocks
from support.ports import free_port

PAGE = "examples/outbox/README.md"


@pytest.fixture
def shell(postgres, tmp_path):
    with postgres.database() as shop, postgres.database() as invoices, postgres.database() as shipping, \
            postgres.database() as statistics:
        amqp = f"127.0.0.1:{free_port()}"
        with Shell({"SHOP": shop, "INVOICES": invoices, "SHIPPING": shipping, "STATISTICS": statistics, "AMQP": amqp,
                    "BROKER": f"amqp://guest:guest@{amqp}/%2F", "WEBHOOK": f"127.0.0.1:{free_port()}",
                    "WORK": str(tmp_path)}) as here:
            here.shop = shop
            yield here


def test_the_page_of_the_order_story_can_be_followed_word_for_word(shell):
    page = blocks(PAGE)
    assert "createdb" in page[0][0] and len(page) == 11, "the first block is what this test replaces"
    shell.follow(page[1:])


def test_an_order_that_is_not_placed_tells_nobody(shell):
    for text, _ in blocks(PAGE)[2:3]:
        shell.run(text)
    out = shell.run("$WORK/order_service $SHOP eve tea 0 || echo refused\n")
    assert out[-1] == "refused"
    out = shell.run("examples/outbox/order_service.py $SHOP eve tea 0 2>/dev/null || echo refused\n")
    assert out == ["refused"]
    connection = psycopg2.connect(shell.shop)
    with connection, connection.cursor() as cursor:
        cursor.execute("select (select count(*) from orders), (select count(*) from barid.outbox)")
        assert cursor.fetchone() == (0, 0)
    connection.close()
