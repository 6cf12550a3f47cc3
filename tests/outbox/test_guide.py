"""docs/outbox.md: its five minutes, word for word; and every row of its failures, and every word of the way, names tests
that are there."""
import glob
import os
import re

from support.page import ROOT, Shell, blocks
from support.ports import free_port


def test_the_five_minutes_can_be_followed_word_for_word(postgres, tmp_path):
    amqp = f"127.0.0.1:{free_port()}"
    page = blocks("docs/outbox.md")
    assert "createdb" in page[0][0] and len(page) == 8, "the first block is what this test replaces"
    with postgres.database() as shop, postgres.database() as billing:
        with Shell({"SHOP": shop, "BILLING": billing, "AMQP": amqp, "BROKER": f"amqp://guest:guest@{amqp}/%2F",
                    "WORK": str(tmp_path)}) as shell:
            shell.follow(page[1:])


def test_every_row_of_the_failures_names_its_tests():
    there = set()
    for path in glob.glob(os.path.join(ROOT, "tests", "outbox", "test_*.py")):
        with open(path, encoding="utf-8") as f:
            there |= set(re.findall(r"^def test_(\w+)", f.read(), re.M))
    with open(os.path.join(ROOT, "docs", "outbox.md"), encoding="utf-8") as f:
        told = f.read().split("## What happens when", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[3] for line in told.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(\w+)`", row) for row in rows]
    assert len(rows) > 25 and all(named), "each row names a test"
    words = told.split("And of the way itself", 1)[1]
    assert [w for w in ("store", "retries", "marking", "publish", "delete", "notify", "consume", "handle")
            if not re.search(rf"\*{w}\* \(`\w+`", words)] == []
    named.append(re.findall(r"`(\w+)`", words))
    assert [name for names in named for name in names if name not in there] == []
