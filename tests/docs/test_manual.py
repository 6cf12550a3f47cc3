"""barid --help, docs/cli.md and the manual page speak of the same commands, options and variables."""
import glob
import os
import re
import subprocess

import pytest

from support.server import ROOT, binary


def run(*words):
    return subprocess.run([binary(), *words], capture_output=True, text=True, timeout=60, check=True).stdout


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def listed():
    """The commands that `barid --help` lists."""
    return re.findall(r"^  ([a-z]+)  ", run("--help"), re.M)


def manual():
    """The manual page with its options and words as they are typed."""
    text = read("docs", "man", "barid.1").replace("\\(dq", '"')
    return re.sub(r"Fl -([a-z-]+)", r"--\1", text)


COMMANDS = listed()
HELP = {name: run(name, "--help") for name in COMMANDS}
BENCH = "".join(run("bench", what, "--help") for what in ("journey", "connections", "amqp"))


def options(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


ALL_OPTIONS = options("".join(HELP.values()) + BENCH) | {"--help", "--version", "--config"}


def test_there_are_commands():
    assert len(COMMANDS) > 15 and all(HELP[name].strip() for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_page_has_every_command(name):
    items = " ".join(re.findall(r"^\.It Cm (.*)$", manual(), re.M))
    assert name in re.findall(r"[a-z]+", items)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_about_the_terminal_shows_every_command(name):
    assert f"barid {name}" in read("docs", "cli.md")


def test_the_manual_page_has_every_verb():
    """`list`, `add` … of a command's help stand in its synopsis."""
    synopsis = manual().split(".Sh DESCRIPTION")[0]
    for name in ("conversation", "outbox", "parked", "user", "vhost", "permission", "definitions"):
        parts = re.findall(rf"^\.Cm {name}\n(.*?)(?=^\.Nm|\Z)", synopsis, re.M | re.S)
        verbs = set(re.findall(rf"^(?:Usage: |       )?barid {name} ([a-z]+)", HELP[name], re.M))
        assert verbs and verbs <= set(re.findall(r"[a-z]+", " ".join(parts))), name


def test_the_manual_page_has_no_option_that_is_not_there():
    assert options(manual()) <= ALL_OPTIONS


def commands_in(text):
    """[(subcommand, the rest)] of lines like `barid send bob --media x`, in code only."""
    code = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.M | re.S) + re.findall(r"`([^`\n]+)`", text)
    for line in "\n".join(code).splitlines():
        for found in re.finditer(r"(?:^|[\s/$`|])barid ([a-z]+)((?: [^|;&#]*)?)", line):
            yield found.group(1), found.group(2)


PAGES = sorted(["README.md", "CONTRIBUTING.md"] + [os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "docs", "*.md"))])


@pytest.mark.parametrize("path", PAGES)
def test_what_a_page_says_to_type_is_there(path):
    for name, rest in commands_in(read(path)):
        assert name in HELP, f"barid {name}"
        known = options(HELP[name]) | {"--help"} | (options(BENCH) if name == "bench" else set())
        known |= {"--password"} if name == "user" else set()  # shown as refused
        assert options(rest) <= known, f"barid {name}{rest}"


def test_every_variable_is_known():
    """BARID_* of the pages stand in some --help, or are a setting of serve or status in capitals."""
    told = set(re.findall(r"BARID_[A-Z_]+", "".join(HELP.values()) + read("docs", "development.md")))
    settings = {"BARID_" + o[2:].upper().replace("-", "_") for o in options(HELP["serve"]) | options(HELP["status"])}
    for path in PAGES + [os.path.join("docs", "man", "barid.1")]:
        assert set(re.findall(r"BARID_[A-Z]+(?:_[A-Z]+)*", read(path))) <= told | settings | {"BARID_HOME"}, path


def test_links_lead_somewhere():
    for path in PAGES + [os.path.relpath(p, ROOT) for p in glob.glob(os.path.join(ROOT, "docs", "decisions", "*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)?(?:#([^)\s]*))?\)", read(path)):
            file, anchor = target
            if "://" in file:
                continue
            where = os.path.normpath(os.path.join(ROOT, os.path.dirname(path), file)) if file else os.path.join(ROOT, path)
            assert os.path.exists(where), f"{path}: {file}"
            if anchor:
                assert anchor in anchors(where), f"{path}: {file}#{anchor}"


def anchors(path):
    """Of a Markdown file's headings, as GitHub makes them."""
    with open(path, encoding="utf-8") as f:
        text = re.sub(r"^```.*?^```", "", f.read(), flags=re.M | re.S)
    return {re.sub(r"[^\w -]", "", h.replace("`", "").lower()).strip().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
