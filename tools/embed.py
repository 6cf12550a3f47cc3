#!/usr/bin/env python3
"""Turn files into C arrays: embed.py OUT.c SYMBOL FILE…

Makes `const struct embedded_file SYMBOL[]` of (name, bytes, length), ended by a NULL name. Used for the SQL
migrations and the web page, so that the binary is one file.
"""
import os
import sys


def main() -> None:
    out, symbol, *paths = sys.argv[1:]
    lines = ['#include "base/embedded.h"', ""]
    rows = []
    for n, path in enumerate(paths):
        with open(path, "rb") as f:
            data = f.read() + b"\0"  # NUL-terminated, not counted
        body = ",".join(str(b) for b in data)
        lines.append(f"static const unsigned char file_{n}[] = {{{body}}};")
        rows.append(f'    {{"{os.path.basename(path)}", file_{n}, {len(data) - 1}}},')
    lines += ["", f"const struct embedded_file {symbol}[] = {{"] + rows + ["    {0, 0, 0},", "};", ""]
    with open(out, "w", encoding="utf-8") as f:
        f.write("\n".join(lines))


main()
