"""`barid check` against the real binary: what it says of a sound, a running and a damaged data directory and of media
in PostgreSQL, and that what it salvages is served again."""
import contextlib
import glob
import hashlib
import json
import os
import shutil
import subprocess

import pytest

from support.parts import Distributed
from support.server import Server, binary, eventually

TEXT = "a text that is easy to find in a segment, number "


def check(data, *args):
    """(exit code, standard output, standard error)"""
    env = {k: v for k, v in os.environ.items() if k != "BARID_DATA"}
    done = subprocess.run([binary(), "check", "--data", data, *args], capture_output=True, text=True, timeout=60,
                          env=env, check=False)
    return done.returncode, done.stdout, done.stderr


def check_json(data, *args):
    code, out, _ = check(data, "--json", *args)
    return code, json.loads(out)


def content_of(directory):
    """Every file and its bytes."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            with open(os.path.join(folder, name), "rb") as f:
                found[os.path.join(folder, name)] = f.read()
    return found


@pytest.fixture
def server():
    with Server() as s:
        yield s


def send_some(server, count=20):
    """Messages whose events went through the journal; bob has not read any of them."""
    alice, bob = server.new_user("alice"), server.new_user("bob")
    c = alice.conversation(["bob"])["conversation_id"]
    ids = [alice.send(c, TEXT + str(i))["message_id"] for i in range(count)]
    eventually(lambda: len(bob.mailbox(limit=count)["entries"]) == count, what="all messages in the mailbox")
    return bob, ids


def first_segment(server):
    segments = sorted(glob.glob(os.path.join(server.data, "journal", "*.seg")))
    assert segments
    return segments[0]


def damage(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)
        f.seek(offset)
        f.write(bytes([byte[0] ^ 0x40]))


def damage_a_record(path):
    """One bit in the first record of the first frame (layout: src/journal/format.h); the offset of the record."""
    damage(path, 4096 + 40 + 24)
    return 4096 + 40


def test_a_sound_directory_is_said_to_be_sound_and_left_as_it_is(server):
    send_some(server)
    server.stop()
    before = content_of(server.data)
    code, out, err = check(server.data)
    assert (code, err) == (0, "")
    assert out.rstrip().endswith("sound")
    assert content_of(server.data) == before


def test_as_json(server):
    send_some(server)
    server.stop()
    code, told = check_json(server.data)
    assert code == 0
    assert told["sound"] is True and told["repaired"] is False and told["findings"] == []
    assert told["journal"]["segments"] >= 1 and told["journal"]["records"] >= 20
    assert told["journal"]["lost_ranges"] == 0


def test_a_killed_server_leaves_nothing_to_repair(server):
    send_some(server)
    server.kill9()
    code, told = check_json(server.data)
    assert code == 0 and told["sound"] is True
    assert [f for f in told["findings"] if f["kind"] == "lost"] == []


def test_a_running_server_is_not_checked(server):
    send_some(server, 1)
    code, out, err = check(server.data)
    assert code == 1 and out == ""
    assert "in use" in err
    code, out, err = check(server.data, "--repair")
    assert code == 1 and "in use" in err
    assert server.api().call("GET", "/healthz").status_code == 200


def test_a_directory_that_is_not_there_is_not_made(tmp_path):
    missing = str(tmp_path / "nothing")
    code, _, err = check(missing)
    assert code == 1 and missing in err
    assert not os.path.exists(missing)


def test_damage_is_named_by_file_offset_and_command(server):
    send_some(server)
    server.stop()
    segment = first_segment(server)
    offset = damage_a_record(segment)
    before = content_of(server.data)

    code, out, _ = check(server.data)
    assert code == 1
    assert os.path.basename(segment) in out and f"bytes {offset} to" in out
    assert "barid check --repair" in out
    code, told = check_json(server.data)
    assert code == 1 and told["sound"] is False
    lost = [f for f in told["findings"] if f["kind"] == "lost"]
    assert [(os.path.basename(f["file"]), f["offset"]) for f in lost] == [(os.path.basename(segment), offset)]
    assert told["journal"]["lost_ranges"] == 1 and told["journal"]["lost_bytes"] == lost[0]["bytes"] > 0
    assert content_of(server.data) == before, "without --repair not a byte is changed"


def test_the_server_refuses_damage_and_says_what_to_do(server):
    send_some(server)
    server.stop()
    segment = first_segment(server)
    offset = damage_a_record(segment)
    with pytest.raises(AssertionError):
        server.start()
    log = server.log()
    assert os.path.basename(segment) in log and f"byte {offset}" in log and "barid check" in log


def test_repair_salvages_the_rest_and_the_server_goes_on(server):
    _, ids = send_some(server)
    server.stop()
    damage_a_record(first_segment(server))
    sound_records = check_json(server.data)[1]["journal"]["records"]

    code, out, _ = check(server.data, "--repair")
    assert code == 0 and out.rstrip().endswith("repaired")
    code, told = check_json(server.data)
    assert code == 0 and told["sound"] is True
    assert told["journal"]["records"] == sound_records
    server.start()
    bob = server.api()
    bob.login("bob", "correct horse")
    for i, m in enumerate(ids):
        assert bob.get(m)["message_text"] == TEXT + str(i)
    alice = server.api()
    alice.login("alice", "correct horse")
    c = bob.ok("GET", "/conversation")["conversations"][0]["conversation_id"]
    late = alice.send(c, "after the repair")["message_id"]
    eventually(lambda: "queued" in alice.points(late), what="the journey of a message after the repair")


def test_a_segment_without_a_header_is_kept_aside(server):
    send_some(server)
    server.stop()
    segment = first_segment(server)
    for copy in (0, 2048):
        damage(segment, copy + 16)
    code, told = check_json(server.data)
    assert code == 1 and told["journal"]["lost_ranges"] == 1
    assert check(server.data, "--repair")[0] == 0
    assert os.path.exists(segment + ".damaged")
    assert check(server.data)[0] == 0


def test_a_damaged_media_file_is_found(server):
    alice = server.new_user("alice")
    server.new_user("bob")
    c = alice.conversation(["bob"])["conversation_id"]
    alice.send(c, ticket=alice.upload(os.urandom(100000), "image/png")["ticket"])
    server.stop()
    copy = server.data + ".copy"
    shutil.copytree(server.data, copy)
    try:
        files = [f for f in glob.glob(os.path.join(copy, "media", "**", "*"), recursive=True)
                 if os.path.isfile(f) and os.path.getsize(f) == 100000]
        assert len(files) == 1
        damage(files[0], 50000)
        code, told = check_json(copy)
        assert code == 1 and told["media"]["damaged"] == 1
        assert os.path.basename(files[0]) in told["findings"][0]["file"]
        assert check(server.data)[0] == 0
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_media_file_that_is_gone_is_missed(server, killed):
    """Once a message has it, or an upload that is to become one; not when everybody has fetched it."""
    bob, (first, fetched) = send_media(server, b"first", b"fetched")
    waiting = hashlib.sha256(b"waiting").hexdigest()
    alice = server.api()
    alice.login("alice")
    alice.upload(b"waiting", "image/png")
    entries = eventually(lambda: (lambda e: e if len(e) == 2 else None)(bob.mailbox()["entries"]), what="both")
    bob.received(entries[1]["message_id"])
    path = os.path.join(server.data, "media", "{0:.2}", "{0}")
    eventually(lambda: not os.path.exists(path.format(fetched)), what="the removal")
    server.kill9() if killed else server.stop()
    assert check(server.data)[0] == 0
    for name in (first, waiting):
        os.unlink(path.format(name))
    before = content_of(server.data)
    code, told = check_json(server.data)
    assert code == 1 and not told["sound"] and told["media"]["missing"] == 2
    assert sorted(lost(told)) == sorted((name, "is needed, and is not there") for name in (first, waiting))
    assert content_of(server.data) == before, "not a byte is changed"
    assert check(server.data)[1].splitlines()[-2:] == ["media:   0 files, 0 bytes, 2 missing", "damaged"]


@pytest.mark.parametrize("arguments", [["--nonsense"], ["left over"]])
def test_wrong_usage(tmp_path, arguments):
    assert check(str(tmp_path), *arguments)[0] == 2


def test_a_damaged_database_is_found(server):
    send_some(server)
    server.kill9()  # with its log beside it
    before = content_of(server.data)
    code, told = check_json(server.data)
    assert code == 0 and told["database"]["damaged"] == 0
    assert content_of(server.data) == before, "not a byte is changed"
    server.start()
    server.stop()
    database = os.path.join(server.data, "barid.db")
    with open(database, "r+b") as f:
        for page in range(5, os.path.getsize(database) // 4096):
            f.seek(page * 4096 + 8)
            f.write(b"damage" * 500)
    before = content_of(server.data)
    code, out, _ = check(server.data)
    assert code == 1 and out.rstrip().endswith("damaged") and "barid.db" in out
    code, told = check_json(server.data)
    assert code == 1 and told["sound"] is False and told["database"]["damaged"] > 0
    assert content_of(server.data) == before


# ---- media in PostgreSQL ------------------------------------------------------------------------------------

@pytest.fixture
def shared(postgres, kafka):
    with contextlib.closing(Distributed(postgres, kafka)) as parts:
        yield parts


def check_database(parts, *args):
    """(exit code, what it says) of the media in PostgreSQL."""
    env = {k: v for k, v in os.environ.items() if k not in ("BARID_DATA", "BARID_DATABASE")}
    done = subprocess.run([binary(), "check", "--json", "--database", parts.database, *args], capture_output=True, text=True,
                          timeout=60, env=env, check=False)
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


def lost(told):
    return [(f["file"].rsplit("/")[-1], f["what"]) for f in told["findings"] if f["kind"] == "lost"]


def send_media(server, *contents):
    alice, bob = server.new_user("alice"), server.new_user("bob")
    c = alice.conversation(["bob"])["conversation_id"]
    for content in contents:
        alice.send(c, ticket=alice.upload(content, "image/png")["ticket"])
    return bob, [hashlib.sha256(content).hexdigest() for content in contents]


def test_damaged_and_missing_media_in_postgresql_are_found_beside_a_running_server(shared):
    with Server(parts=shared) as server:
        _, (large, small) = send_media(server, os.urandom(3_000_000), b"small")
        code, told = check_database(shared)
        assert (code, lost(told)) == (0, [])
        assert told["stored"] == {"media": 2, "bytes": 3_000_005, "damaged": 0, "missing": 0}

        of_large = "upload = (select upload from barid.datastore_content where bytes = 3000000)"
        flip = f"update barid.datastore_chunk set data = set_byte(data, 50, get_byte(data, 50) # 64) where n = 7 and {of_large}"
        shared.execute(flip)
        code, told = check_database(shared)
        assert code == 1 and not told["sound"] and lost(told) == [(large, "the content is not what its name says")]
        shared.execute(flip)
        assert check_database(shared)[0] == 0

        shared.execute(f"delete from barid.datastore_chunk where n = 5 and {of_large}")
        code, told = check_database(shared)
        assert code == 1 and lost(told) == [(large, "a part of it is missing")]

        shared.execute("delete from barid.datastore_content where bytes = 5")
        code, told = check_database(shared)
        assert code == 1 and lost(told) == [(large, "a part of it is missing"), (small, "is needed, and is not there")]
        assert told["stored"] == {"media": 1, "bytes": 3_000_000, "damaged": 1, "missing": 1}


def test_nothing_is_missing_once_everybody_has_it(shared):
    with Server(parts=shared) as server:
        bob, _ = send_media(server, b"fetched", b"waiting")
        entries = eventually(lambda: (lambda e: e if len(e) == 2 else None)(bob.mailbox()["entries"]), what="both")
        bob.received(entries[0]["message_id"])
        eventually(lambda: shared.value("select count(*) from barid.datastore_content") == 1, what="the removal")
        code, told = check_database(shared)
        assert code == 0 and told["stored"]["media"] == 1


def test_files_of_a_server_on_postgresql_are_looked_for_in_its_directory(shared):
    with Server(parts=shared, args=["--data-store", "files"]) as server:
        _, (name,) = send_media(server, b"a file")
        running = subprocess.run([binary(), "check", "--data", server.data], capture_output=True, text=True, check=False)
        assert running.returncode == 1 and "in use" in running.stderr
        server.stop()
        code, told = check_database(shared, "--data", server.data)
        assert code == 0 and told["media"]["files"] == 1 and told["stored"]["missing"] == 0
        os.unlink(os.path.join(server.data, "media", name[:2], name))
        code, told = check_database(shared, "--data", server.data)
        assert code == 1 and lost(told) == [(name, "is needed, and is not there")]


def test_a_database_without_a_server_is_said_to_be_none(database, tmp_path):
    done = subprocess.run([binary(), "check", "--database", database], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "no tables of a server" in done.stderr
    assert check(str(tmp_path), "--database", "sqlite:here")[0] == 2
