"""barid user, vhost, permission and definitions on the PostgreSQL of a server that is not running."""
import os
import subprocess

import pytest

from support.server import Server, binary


def run(*words, password=None):
    env = {k: v for k, v in os.environ.items() if not k.startswith("BARID_")}
    if password is not None:
        env["BARID_NEW_PASSWORD"] = password
    return subprocess.run([binary(), *words], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


@pytest.fixture
def tables(database):
    """The URL of a database with the server's tables."""
    done = run("migrate", "--database", database, "--for", "server")
    assert done.returncode == 0, done.stderr
    return database


def ok(*words, **more):
    done = run(*words, **more)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def refused(*words):
    done = run(*words)
    assert done.returncode == 1, (words, done.stdout, done.stderr)
    return done.stderr


def test_a_user_made_before_the_first_start_is_there_after_it(tables, tmp_path):
    ok("user", "add", "ann", "--tags", "management", "--database", tables, password="secret")
    ok("vhost", "add", "blue", "--database", tables)
    ok("permission", "set", "ann", ".*", ".*", "^a", "--vhost", "blue", "--database", tables)
    with Server(amqp=True, management=True, args=["--database", tables]) as server:
        export = server.data + "/definitions.json"
        said = refused("user", "list", "--database", tables)
        assert "server" in said and server.data in said
        server.stop()
        with open(export, "w", encoding="utf-8") as f:
            f.write(ok("definitions", "export", "--database", tables))
        ok("user", "delete", "ann", "--database", tables)
        assert ok("user", "list", "--database", tables).split() == ["USER", "TAGS", "guest", "administrator"]
        ok("definitions", "import", export, "--database", tables)
        assert "ann" in ok("permission", "list", "--vhost", "blue", "--database", tables)
        # Its directory is told from one that has its own database.
        assert "--database" in refused("user", "list", "--data", server.data)
        assert "PostgreSQL" in ok("check", "--data", server.data)


def test_what_is_not_there_or_not_right_is_said(database):
    assert "barid migrate" in refused("user", "list", "--database", database)
    assert "--data" in refused("user", "list", "--database", "sqlite:x.db")
    assert "one of them" in refused("user", "list", "--database", database, "--data", "x")
    assert "refused" in refused("user", "list", "--database", "postgresql://nobody@127.0.0.1:1/x")
