"""docs/outbox.md: its five minutes, word for word."""
from support.page import Shell, blocks
from support.ports import free_port


def test_the_five_minutes_can_be_followed_word_for_word(postgres, tmp_path):
    amqp = f"127.0.0.1:{free_port()}"
    page = blocks("docs/outbox.md")
    assert "createdb" in page[0][0] and len(page) == 8, "the first block is what this test replaces"
    with postgres.database() as shop, postgres.database() as billing:
        with Shell({"SHOP": shop, "BILLING": billing, "AMQP": amqp, "BROKER": f"amqp://guest:guest@{amqp}/%2F",
                    "WORK": str(tmp_path)}) as shell:
            shell.follow(page[1:])
