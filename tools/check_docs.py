#!/usr/bin/env python3
"""Checks that what the documentation points to exists: relative links, and paths of files in code spans.

usage: check_docs.py [ROOT]

A code span such as `nn/mamba.cc` or `tools/layers.txt` counts as a path when it has a slash and one of our endings; it is
looked for from the root and from molt/. Names in capitals stand for something else.
"""
import re
import sys
from pathlib import Path

PATH = re.compile(r"`([\w./-]+/[\w.-]+\.(?:h|cc|py|txt|cmake|sh|md))`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def check(root):
    errors = []
    for doc in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        for number, line in enumerate(doc.read_text().splitlines(), 1):
            missing = [link for link in LINK.findall(line) if not (doc.parent / link).exists()]
            missing += [path for path in PATH.findall(line)
                        if not re.search("[A-Z]{3}", path) and not any((root / top / path).exists() for top in ("", "molt"))]
            errors += [f"{doc.relative_to(root)}:{number}: no file {name}" for name in missing]
    return errors


if __name__ == "__main__":
    found = check(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    print("\n".join(found) if found else "docs: every link and path leads somewhere")
    sys.exit(1 if found else 0)
