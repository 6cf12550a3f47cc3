"""The web client in two real browsers, one server: texts and a picture there and back, ticks up to read, a server
killed in between, a second tab, a reload; and nothing on the console."""
import hashlib
import shutil
import struct
import zlib

import pytest

pytest.importorskip("selenium")

if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("Chromium and its driver are not here", allow_module_level=True)

from selenium.common.exceptions import NoAlertPresentException  # noqa: E402

from browser import Browser  # noqa: E402

from support.proxy import Proxy  # noqa: E402
from support.server import Api, Server, eventually  # noqa: E402

PASSWORD = "correct horse"


def picture(path, width=320, height=200):
    """A PNG with a gradient in it."""
    rows = b"".join(b"\0" + bytes(v for x in range(width) for v in (60 + x // 3, 120 + y // 2, 200 - y // 2)) for y in range(height))

    def chunk(kind, data):
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack("!IIBBBBB", width, height, 8, 2, 0, 0, 0))
                + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return str(path)


@pytest.fixture
def scene(tmp_path):
    with Server() as server, Browser() as alice, Browser(dark=True) as bob:
        bob.register(server.url, "bob", PASSWORD)
        alice.register(server.url, "alice", PASSWORD, "Alice")
        alice.begin(["bob"])
        yield server, alice, bob
        for name, browser in (("alice", alice), ("bob", bob)):
            print(f"screenshot of {name}: {browser.shot(str(tmp_path / (name + '.png')))}")
            assert browser.complaints() == []


def image_is_shown(browser):
    script = "return [...document.querySelectorAll('article.message img')].filter(i => i.complete && i.naturalWidth).map(i => i.naturalWidth)"
    return browser.driver.execute_script(script)


def test_text_picture_ticks_and_a_killed_server(scene, tmp_path):
    server, alice, bob = scene
    alice.write("Salam Bob! Did the parcel arrive?")
    alice.wait_state("parcel", "delivered")  # bob's browser has it; he is not looking
    bob.wait(lambda: [b.text for b in bob.all(".badge")] == ["1"], "the unread count")
    assert bob.driver.title == "(1) barid"
    bob.open_conversation("alice")
    bob.wait_text("Did the parcel arrive?")
    alice.wait_state("parcel", "read")
    bob.wait(lambda: not bob.all(".badge"), "the unread count going")

    bob.write("It did. <b>All</b> three camels & \U0001F42A too")
    alice.wait_text("<b>All</b> three camels & \U0001F42A too")
    bob.wait_state("three camels", "read")

    alice.attach(picture(tmp_path / "caravan.png"))
    bob.wait(lambda: image_is_shown(bob) == [320], "the picture")
    alice.wait(lambda: [m.get_attribute("data-state") for m in alice.all("article.message")][-1] == "read", "the picture's ticks")

    server.kill9()
    alice.wait(lambda: alice.status() == "offline", "the loss of the link being shown")
    alice.write("Written without a server")
    alice.wait_state("without a server", "sending")
    alice.driver.refresh()  # the store is the safe point, not the page
    alice.wait_state("without a server", "sending")
    server.start()
    bob.wait_text("Written without a server")
    alice.wait_state("without a server", "read")
    assert bob.texts().count("Written without a server") == 1

    alice.track("without a server")
    alice.wait(lambda: {"created", "accepted", "published", "queued", "received", "deleted", "read"} <= set(alice.points()), "the timeline")
    alice.shot(str(tmp_path / "track.png"))
    alice.close_track()
    alice.size(390, 780)
    alice.shot(str(tmp_path / "phone.png"))
    alice.size(1200, 800)


@pytest.mark.parametrize("hide_length", [False, True], ids=["announced", "unannounced"])
def test_a_picture_that_is_broken_off_is_not_kept_and_comes_whole_later(tmp_path, hide_length):
    with Server() as server, Proxy(server.port) as proxy, Browser() as bob:
        bob.register(proxy.url, "bob", PASSWORD)
        alice = server.new_user("alice")
        with open(picture(tmp_path / "caravan.png"), "rb") as f:
            ticket = alice.upload(f.read(), "image/png", "caravan.png")["ticket"]
        cut = proxy.break_off(b"/media HTTP/1.1", after=1500, hide_length=hide_length)
        message = alice.send(alice.conversation(["bob"])["conversation_id"], ticket=ticket)["message_id"]
        bob.open_conversation("alice")
        bob.wait_text("broken off")
        eventually(lambda: cut.count >= 2, what="another attempt")
        assert image_is_shown(bob) == [] and "received" not in alice.points(message)
        proxy.mend()
        bob.wait(lambda: image_is_shown(bob) == [320], "the picture")
        eventually(lambda: "received" in alice.points(message), what="the word that it came")
        assert bob.message("broken off") is None and bob.complaints() == []


def test_two_tabs_share_one_link(scene):
    server, alice, bob = scene
    first = alice.driver.current_window_handle
    alice.driver.switch_to.new_window("tab")
    alice.open(server.url)
    alice.wait(lambda: alice.status() == "follower", "the second tab standing back")
    alice.open_conversation("bob")
    alice.write("from the second tab")
    alice.wait_state("from the second tab", "delivered")
    bob.open_conversation("alice")
    bob.wait_text("from the second tab")
    alice.wait_state("from the second tab", "read")
    second = alice.driver.current_window_handle
    alice.driver.switch_to.window(first)
    alice.driver.close()
    alice.driver.switch_to.window(second)
    alice.wait(lambda: alice.status() == "online", "the second tab taking the link over")
    alice.write("and still")
    bob.wait_text("and still")


def test_many_and_in_order(scene):
    server, alice, bob = scene
    for i in range(70):
        alice.write(f"line {i}.")
    bob.open_conversation("alice")
    bob.wait_text("line 69.")
    assert bob.texts() == [f"line {i}." for i in range(10, 70)]
    bob.driver.execute_script("document.getElementById('earlier').click()")
    bob.wait(lambda: bob.texts() == [f"line {i}." for i in range(70)], "the earlier messages")


def test_a_refused_message_steps_aside(scene):
    server, alice, bob = scene
    alice.driver.execute_script("window.fetch = new Proxy(fetch, {apply: (f, t, [u, o]) => o.method === 'POST' && o.body?.includes('refuse me')"
                                " ? Promise.resolve(new Response('{\"error\":{\"code\":\"invalid\",\"field\":\"message_text\",\"reason\":\"no\"}}', {status: 422}))"
                                " : f.call(t, u, o)})")
    alice.write("refuse me")
    alice.write("after it")
    alice.wait_state("refuse me", "rejected")
    alice.wait_state("after it", "delivered")
    alice.track("refuse me")
    alice.click("#track-discard")
    alice.wait(lambda: "refuse me" not in alice.texts(), "the discarded message going")


def test_signing_out_leaves_nothing_behind(scene):
    server, alice, bob = scene
    alice.write("to be forgotten")
    alice.wait_state("to be forgotten", "delivered")
    alice.click("#sign-out")
    eventually(lambda: alert(alice), 10, "the question").accept()
    alice.wait(lambda: alice.all("#signin"), "the sign-in page")
    assert alice.driver.execute_script("return Object.keys(localStorage).length") == 0
    alice.wait(lambda: alice.driver.execute_async_script("indexedDB.databases().then(arguments[0])") == [], "the store going")
    assert Api(server).call("GET", "/").headers["Content-Security-Policy"].startswith("default-src 'self'")


def alert(browser):
    try:
        return browser.driver.switch_to.alert
    except NoAlertPresentException:
        return None


def test_conversation_ids_are_those_of_the_terminal_client(scene):
    server, alice, bob = scene
    for members in (["alice", "bob"], ["bob", "alice", "bob"], [f"user-{i:03d}" for i in range(300)]):
        text = "".join(m + "\0" for m in sorted(set(members))).encode()
        found = alice.driver.execute_async_script(
            "import('/derive.js').then(m => m.conversationOf(arguments[0])).then(arguments[1])", members)
        assert found == "dm-" + hashlib.blake2b(text, digest_size=16).hexdigest()
