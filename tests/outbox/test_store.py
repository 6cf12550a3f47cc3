"""libbarid: its own tests on a real PostgreSQL, and a program of a stranger's that includes barid.h and links to it."""
import os
import shutil
import subprocess

import psycopg2
import pytest

from support.process import ROOT, binary

BUILT = os.path.join(os.path.dirname(binary()), "src", "lib")

PROGRAM = r"""
#include <barid.h>
#include <libpq-fe.h>
#include <stdio.h>

int main(int argc, char **argv) {
    PGconn *c = PQconnectdb(argv[1]);
    barid_outbox *outbox = barid_outbox_new();
    barid_event *event = barid_event_new("orders", "order-17", "{}", 2);
    PQclear(PQexec(c, "begin"));
    barid_result result = barid_outbox_store(outbox, c, event);
    PQclear(PQexec(c, "commit"));
    printf("%s %s%s\n", barid_result_name(result), barid_outbox_event_id(outbox), barid_outbox_error(outbox));
    barid_event_free(event);
    barid_outbox_free(outbox);
    PQfinish(c);
    return 0;
}
"""


@pytest.fixture
def outbox(database):
    """The URL of a database with the outbox in it, as the migration makes it."""
    with open(os.path.join(ROOT, "sql", "postgres", "0001_outbox.sql"), encoding="utf-8") as f:
        schema = f.read()
    connection = psycopg2.connect(database)
    with connection, connection.cursor() as cursor:
        cursor.execute("create schema barid; set search_path = barid, public; " + schema)
    connection.close()
    return database


def test_an_event_is_stored_in_the_applications_transaction_with_attempts_and_marking(outbox):
    run = subprocess.run([os.path.join(BUILT, "lib_outbox_store_test")], env={**os.environ, "BARID_TEST_OUTBOX": outbox},
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout[-6000:]
    assert "SKIPPED" not in run.stdout, run.stdout[-2000:]


@pytest.mark.parametrize("compiler,flags,library", [
    ("gcc", ["-std=c99", "-pedantic"], "libbarid.a"), ("gcc", ["-std=c17"], "libbarid.so"),
    ("g++", ["-std=c++11", "-pedantic"], "libbarid.so")])
def test_a_strangers_program_includes_the_header_and_links(compiler, flags, library, outbox, tmp_path):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    source = tmp_path / ("program.cc" if compiler == "g++" else "program.c")
    source.write_text(PROGRAM)
    subprocess.run([compiler, *flags, "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter",
                    "-I", os.path.join(ROOT, "include"), "-I/usr/include/postgresql", str(source),
                    os.path.join(BUILT, library), "-lpq", f"-Wl,-rpath,{BUILT}", "-o", str(tmp_path / "program")],
                   check=True, timeout=100)
    out = subprocess.run([str(tmp_path / "program"), outbox], check=True, capture_output=True, text=True, timeout=50)
    word, event_id = out.stdout.split()
    assert word == "stored"
    connection = psycopg2.connect(outbox)
    with connection, connection.cursor() as cursor:
        cursor.execute("select event_id::text, topic, key, convert_from(payload, 'UTF8') from barid.outbox")
        assert cursor.fetchall() == [(event_id, "orders", "order-17", "{}")]
    connection.close()
