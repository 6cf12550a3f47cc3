"""The house rules as failing tests: which folder may include which, sizes, banned calls, comments, READMEs.

Every rule is a function (path, text) -> list of complaints, run over the files of the repository. Each is also
shown a made-up file that breaks it, and one that does not, so that a rule cannot fall asleep unnoticed.
"""
import os
import re
import statistics
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Includes point one way: folder -> the folders it may include, besides itself.
MAY_INCLUDE = {
    "base": set(),
    "journal": {"base"},
    "wire": {"base"},
    "engine": {"base", "wire", "journal"},
    "database": {"base"},
    "access": {"base", "database"},
    "amqp": {"base", "wire", "journal", "engine", "access", "datastore"},
    "bus": {"base", "wire", "journal", "engine"},
    "datastore": {"base", "database"},
    "outbox": {"base", "database", "bus", "datastore"},
    "inbox": {"base", "database", "bus", "outbox"},
    "chat": {"base", "database", "bus", "datastore", "outbox"},
    "http": {"base", "database", "bus", "datastore", "outbox", "chat"},
    "management": {"base", "wire", "journal", "engine", "access", "amqp", "database", "bus", "http"},
    "client": {"base"},
    "lib": set(),
    "cli": {"base", "wire", "journal", "engine", "access", "amqp", "management", "database", "bus", "datastore", "outbox",
            "inbox", "chat", "http", "client"},
}

# Library header -> the files under src/ that may know it.
LIBRARY_HOMES = {
    "uv.h": r"base/loop(_test)?\.c|database/.*|datastore/.*|http/.*|amqp/(server|listener|socket|tls)\w*\.[ch]|management/door\.c|client/.*|cli/.*|inbox/handler_\w+\.c",
    "pcre2.h": r"access/.*|management/name_pattern\.c",
    "microhttpd.h": r"management/(door|call)\.c",
    "libwebsockets.h": r"http/.*|client/.*",
    "sqlite3.h": r"database/sqlite\w*\.[ch]|database/\w+_test\.c|client/store\w*\.[ch]|client/\w+_test\.c",
    "libpq-fe.h": r"database/postgres\w*\.[ch]|database/\w+_test\.c|lib/.*",
    "librdkafka/rdkafka.h": r"bus/kafka\w*\.[ch]",
    "librdkafka/rdkafka_mock.h": r"bus/kafka\w*_test\.[ch]",
    "amqp.h": r"bus/amqp\w*\.[ch]",
    "curl/curl.h": r"client/.*|cli/.*|inbox/.*web\w*\.[ch]",
}

# These never touch the operating system: clock, disk and randomness come through struct io.
SEALED = {"journal", "engine", "bus", "outbox"}
SYSTEM_HEADERS = re.compile(r"unistd\.h|fcntl\.h|time\.h|dirent\.h|sys/(?!uio\.h).*|netinet/.*|arpa/.*")

LINES_MAX = 1000
SIZED = (".c", ".h", ".py", ".js", ".sql", ".css", ".html")
TEXT = SIZED + (".md", ".sh", ".yaml", ".yml", ".json", ".build", ".txt", "Makefile", ".ci/run")
BANNED = ["strcpy", "strcat", "sprintf", "vsprintf", "gets", "strtok", "atoi", "atol", "alloca", "system", "popen",
          "rand", "srand"]
BANNED_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")
LEFT_UNDONE = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def is_c(path):
    return path.endswith((".c", ".h"))


def in_src(path):
    return path.startswith("src/") and is_c(path)


def is_test(path):
    return path.endswith(("_test.c", "_test.h"))


def code_only(text):
    """The text without comments and the insides of strings; line numbers stay."""
    return COMMENT_OR_STRING.sub(lambda m: "\n" * m.group().count("\n") or '""', text)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


# --- the rules ---

def include_direction(path, text):
    if not in_src(path):
        return []
    here = path.split("/")[1]
    if here not in MAY_INCLUDE:
        return [f"{path}: src/{here} is not in the map of folders"]
    allowed = MAY_INCLUDE[here] | {here}
    found = []
    for m in INCLUDE.finditer(text):
        there = m.group(2).split("/")[0]
        if m.group(1) == '"' and there in MAY_INCLUDE and there not in allowed:
            found.append(f"{path}:{line_of(text, m.start())}: {here}/ must not include {m.group(2)}")
    return found


def include_by_folder(path, text):
    if not in_src(path):
        return []
    found = []
    for m in INCLUDE.finditer(text):
        name = m.group(2)
        ours = name.split("/")[0] in MAY_INCLUDE and "/" in name
        simulator = is_test(path) and name.startswith("sim/")
        public = name == "barid.h"
        if m.group(1) == '"' and not (ours or simulator or public) or ".." in name:
            found.append(f'{path}:{line_of(text, m.start())}: "{name}" is not written "folder/file.h"')
    return found


def libraries_at_home(path, text):
    if not in_src(path):
        return []
    found = []
    for m in INCLUDE.finditer(text):
        home = LIBRARY_HOMES.get(m.group(2))
        if home and not re.fullmatch(home, path[len("src/"):]):
            found.append(f"{path}:{line_of(text, m.start())}: {m.group(2)} is not for this file")
    return found


def system_calls_at_home(path, text):
    if not in_src(path) or is_test(path) or path.split("/")[1] not in SEALED:
        return []
    return [f"{path}:{line_of(text, m.start())}: <{m.group(2)}> in a part that must go through struct io"
            for m in INCLUDE.finditer(text) if m.group(1) == "<" and SYSTEM_HEADERS.fullmatch(m.group(2))]


def file_size(path, text):
    lines = text.count("\n")
    return [f"{path}: {lines} lines, more than {LINES_MAX}"] if path.endswith(SIZED) and lines > LINES_MAX else []


def banned_calls(path, text):
    if not is_c(path):
        return []
    code = code_only(text)
    return [f"{path}:{line_of(code, m.start())}: {m.group(1)} is banned" for m in BANNED_CALL.finditer(code)]


def nothing_left_undone(path, text):
    if not path.endswith(TEXT):
        return []
    return [f"{path}:{line_of(text, m.start())}: {m.group()}" for m in LEFT_UNDONE.finditer(text)]


def file_top_comment(path, text):
    """A .c file may leave the telling to the header of the same name, when that is the first thing it includes."""
    own_header = f'#include "{path[len("src/"):-2]}.h"\n'
    if not in_src(path) or text.startswith(("// ", "/* ", "/*\n")) or path.endswith(".c") and text.startswith(own_header):
        return []
    return [f"{path}: does not begin with a comment that tells a newcomer what it is"]


def header_guard(path, text):
    if not in_src(path) or not path.endswith(".h"):
        return []
    guard = "BARID_" + re.sub(r"\W", "_", path[len("src/"):]).upper()
    wanted = re.compile(rf"^#ifndef {guard}\n#define {guard}\n.*^#endif\b[^\n]*\n\Z", re.M | re.S)
    return [] if wanted.search(text) else [f"{path}: no guard {guard} from the first line to the last"]


def whitespace(path, text):
    if not path.endswith(TEXT):
        return []
    found = [f"{path}:{line_of(text, m.start())}: white space at the end of the line"
             for m in re.finditer(r"[ \t\r]+$", text, re.M)] if not path.endswith(".md") else []
    if text and not text.endswith("\n"):
        found.append(f"{path}: the last line does not end")
    return found


RULES = [include_direction, include_by_folder, libraries_at_home, system_calls_at_home, file_size, banned_calls,
         nothing_left_undone, file_top_comment, header_guard, whitespace]

UNDONE = "// TO" + "DO: later\n"
BREAKS = [
    (include_direction, "src/engine/a.c", '#include "http/http.h"\n'),
    (include_direction, "src/base/a.c", '#include "journal/journal.h"\n'),
    (include_direction, "src/chat/a.c", '  #  include "cli/cli.h"\n'),
    (include_direction, "src/client/a.c", '#include "chat/chat.h"\n'),
    (include_direction, "src/attic/a.c", ""),
    (include_by_folder, "src/engine/a.c", '#include "engine.h"\n'),
    (include_by_folder, "src/engine/a.c", '#include "../base/io.h"\n'),
    (include_by_folder, "src/engine/a.c", '#include "sim/io_sim.h"\n'),
    (libraries_at_home, "src/chat/a.c", "#include <libwebsockets.h>\n"),
    (libraries_at_home, "src/engine/a.c", "#include <uv.h>\n"),
    (libraries_at_home, "src/chat/a.c", "#include <sqlite3.h>\n"),
    (libraries_at_home, "src/database/database.c", "#include <sqlite3.h>\n"),
    (libraries_at_home, "src/outbox/a.c", "#include <libpq-fe.h>\n"),
    (system_calls_at_home, "src/engine/a.c", "#include <time.h>\n"),
    (system_calls_at_home, "src/journal/a.c", "#include <sys/stat.h>\n"),
    (file_size, "web/a.js", "\n" * (LINES_MAX + 1)),
    (file_size, "src/base/a.c", "\n" * (LINES_MAX + 1)),
    (nothing_left_undone, "src/base/a.c", UNDONE),
    (nothing_left_undone, "docs/a.md", UNDONE),
    (file_top_comment, "src/base/a.c", '#include "base/buf.h"\n'),
    (file_top_comment, "src/base/a.h", "#ifndef BARID_BASE_A_H\n"),
    (header_guard, "src/base/a.h", "// A.\nint f(void);\n"),
    (header_guard, "src/base/a.h", "// A.\n#ifndef BARID_BASE_B_H\n#define BARID_BASE_B_H\n#endif\n"),
    (header_guard, "src/base/a.h", "// A.\n#ifndef BARID_BASE_A_H\n#define BARID_BASE_A_H\n#endif\nint f(void);\n"),
    (whitespace, "src/base/a.c", "int a; \n"),
    (whitespace, "src/base/a.c", "int a;"),
] + [(banned_calls, "src/base/a.c", f"void f(void) {{ {name}(a, b); }}\n") for name in BANNED]

KEEPS = [
    (include_direction, "src/http/a.c", '#include "chat/chat.h"\n#include <jansson.h>\n'),
    (include_direction, "src/cli/a.c", '#include "http/http.h"\n#include "client/client.h"\n'),
    (include_by_folder, "src/engine/a.c", '#include "engine/engine.h"\n#include <stdio.h>\n'),
    (include_by_folder, "src/engine/a_test.c", '#include "sim/io_sim.h"\n'),
    (include_by_folder, "src/engine/a_test.h", '#include "sim/io_sim.h"\n'),
    (libraries_at_home, "src/base/loop.c", "#include <uv.h>\n"),
    (libraries_at_home, "src/database/sqlite.c", "#include <sqlite3.h>\n"),
    (libraries_at_home, "src/http/a.c", "#include <libwebsockets.h>\n"),
    (system_calls_at_home, "src/base/io_os.c", "#include <fcntl.h>\n"),
    (system_calls_at_home, "src/engine/a.c", '#include "base/time.h"\n#include <string.h>\n'),
    (file_size, "src/base/a.c", "\n" * LINES_MAX),
    (banned_calls, "src/base/a.c", '// strcpy(a)\n/* gets(b) */ f("atoi(c)"); snprintf(d, 1, ""); vsnprintf(d); '
                                   "io->v->rand(x); file_system(e); brand(f);\n"),
    (nothing_left_undone, "src/base/a.c", '// hackney carriage\nmkdtemp("/tmp/XXXXXX");\n'),
    (file_top_comment, "src/base/a.c", "// What it is.\n"),
    (file_top_comment, "src/base/a.c", '#include "base/a.h"\n'),
    (header_guard, "src/base/a_b.h", "// A.\n#ifndef BARID_BASE_A_B_H\n#define BARID_BASE_A_B_H\nint f(void);\n#endif\n"),
    (header_guard, "src/cli/bench/a.h",
     "// A.\n#ifndef BARID_CLI_BENCH_A_H\n#define BARID_CLI_BENCH_A_H\n#endif // BARID_CLI_BENCH_A_H\n"),
    (whitespace, "src/base/a.c", "int a;\n"),
]


# --- the repository ---

def all_files():
    try:
        listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-co", "--exclude-standard"], check=True,
                                capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        listed = [os.path.relpath(os.path.join(folder, name), ROOT)
                  for folder, _, names in os.walk(ROOT) for name in names
                  if not re.search(r"/(build[^/]*|\.git|__pycache__)(/|$)", folder[len(ROOT):])]
    return sorted(path for path in set(listed) if path.endswith(TEXT) and os.path.isfile(os.path.join(ROOT, path)))


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", newline="") as f:
        return f.read()


FILES = {path: read(path) for path in all_files()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps(rule):
    found = [complaint for path, text in FILES.items() for complaint in rule(path, text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule,path,text", BREAKS, ids=lambda v: getattr(v, "__name__", None))
def test_a_bad_file_is_caught(rule, path, text):
    assert rule(path, text)


@pytest.mark.parametrize("rule,path,text", KEEPS, ids=lambda v: getattr(v, "__name__", None))
def test_a_good_file_is_let_through(rule, path, text):
    assert not rule(path, text)


def test_every_rule_has_been_seen_to_fail_and_to_pass():
    assert {rule for rule, _, _ in BREAKS} == set(RULES)
    assert {rule for rule, _, _ in KEEPS} == set(RULES)


def folders_without_readme(paths):
    folders = {path.split("/")[1] for path in paths if in_src(path)}
    return sorted(folder for folder in folders if f"src/{folder}/README.md" not in paths)


def test_every_part_has_a_readme():
    assert folders_without_readme(["src/a/a.c", "src/a/README.md"]) == []
    assert folders_without_readme(["src/a/a.c", "src/b/b.h", "src/b/README.md"]) == ["a"]
    assert folders_without_readme(FILES) == []


def test_the_map_of_folders_has_no_circle():
    done = set()
    while len(done) < len(MAY_INCLUDE):
        ready = {folder for folder, below in MAY_INCLUDE.items() if folder not in done and below <= done}
        assert ready, f"a circle among {sorted(set(MAY_INCLUDE) - done)}"
        done |= ready


def test_files_are_short(capsys):
    lines = {path: text.count("\n") for path, text in FILES.items() if path.startswith("src/") and path.endswith(".c")}
    longest = max(lines, key=lines.get)
    median = statistics.median(lines.values())
    with capsys.disabled():
        print(f"\n  {len(lines)} C files under src/: median {median:.0f} lines, longest {longest} with {lines[longest]}")
    assert median <= 300
