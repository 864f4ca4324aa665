#!/usr/bin/env python3
"""Checks that files include only what their place allows, as tools/layers.txt says.

usage: check_layers.py [ROOT]

Fails on: an include against the order of rooms, of a file that is not there, or of an outside header away from its
place; a cycle of includes; a word in an #if that is not listed for the file; a header that does not open with a comment
that says what it is for; a file that is too long.
"""
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

LIMITS = {".h": 250, ".cc": 500, ".cu": 500}


def read_rules(path):
    """layers.txt -> ({room: rooms below it}, [(header glob, places)], [(word glob, places)], {path: most lines})."""
    rooms, headers, words, lengths = {}, [], [], {}
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition("#")[0].strip().partition(" ")
        left, _, right = (part.strip() for part in rest.partition(":"))
        if kind == "room":
            rooms[left] = set().union(*({below} | rooms[below] for below in right.split()))
        elif kind in ("header", "if"):
            (headers if kind == "header" else words).extend((name, right.split()) for name in left.split())
        elif kind == "long":
            lengths[rest.split()[0]] = int(rest.split()[1])
        elif kind:
            sys.exit(f"{path}: no rule is called '{kind}'")
    return rooms, headers, words, lengths


def allowed(name, place, rules):
    return any(fnmatch(name, glob) and any(fnmatch(place, p) for p in places) for glob, places in rules)


def find_cycle(graph):
    """A list of files that include each other in a ring, or None."""
    done, stack = set(), []

    def visit(name):
        if name in stack:
            return stack[stack.index(name):] + [name]
        if name in done:
            return None
        stack.append(name)
        ring = next(filter(None, map(visit, graph.get(name, []))), None)
        stack.pop()
        done.add(name)
        return ring

    return next(filter(None, map(visit, graph)), None)


def check(root):
    rooms, headers, words, lengths = read_rules(root / "tools/layers.txt")
    errors, graph = [], {}
    files = [f for top in ("molt", "tests", "bench", "examples") for f in sorted((root / top).rglob("*"))]
    for file in (f for f in files if f.suffix in LIMITS):
        name, text = file.relative_to(root).as_posix(), file.read_text()
        lines = text.splitlines()
        most = lengths.get(name, LIMITS[file.suffix])
        if len(lines) > most:
            errors.append(f"{name}: {len(lines)} lines, at most {most}: split it along a concept")
        if file.suffix == ".h" and not re.match(r"//[^\S\n]*\S", text):
            errors.append(f"{name}:1: a header opens with a comment that says what it is for")
        if not name.startswith("molt/"):
            continue
        room = name.split("/")[1]
        if room not in rooms:
            errors.append(f"{name}: no room is called '{room}'")
            continue
        for number, line in enumerate(lines, 1):
            if found := re.match(r'\s*#\s*include\s*"([^"]+)"', line):
                target = found[1]
                graph.setdefault(name, []).append(target)
                if not target.startswith("molt/") or not (root / target).is_file():
                    errors.append(f"{name}:{number}: no file {target}")
                elif target.split("/")[1] not in rooms[room] | {room}:
                    errors.append(f"{name}:{number}: {room} may not include {target}")
            elif found := re.match(r"\s*#\s*include\s*<([^>]+)>", line):
                if re.search(r"[./]", found[1]) and not allowed(found[1], name, headers):
                    errors.append(f"{name}:{number}: <{found[1]}> may not be included here")
            elif found := re.match(r"\s*#\s*(?:el)?if(?:n?def)?\b(.*?)(//|$)", line):
                for word in set(re.findall(r"[A-Za-z_]\w*", found[1])) - {"defined"}:
                    if not allowed(word, name, words):
                        errors.append(f"{name}:{number}: {word} may not stand in an #if here")
    if ring := find_cycle(graph):
        errors.append("cycle of includes: " + " -> ".join(ring))
    return errors


if __name__ == "__main__":
    found = check(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    print("\n".join(found) if found else "layers: all includes keep to tools/layers.txt")
    sys.exit(1 if found else 0)
