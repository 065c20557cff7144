#!/usr/bin/env python3
"""Holds the shape of the tree: folders in layers, torch only where it belongs, files of at most 400 lines, and comments
of at most 110 columns, which clang-format leaves as they are.

The order of the folders is PTQ_FOLDERS in CMakeLists.txt: a file of one folder includes files of the same folder or
of those before it, as "ptq/<folder>/..." (public headers) or "<folder>/..." (private ones). tools/ may use all of
them. Usage: check_layers.py [ROOT | --self-test]. Exit code 1 if anything is wrong, with one line for each finding.
"""
import pathlib
import re
import sys
import tempfile

MAX_LINES = 400
MAX_COLUMNS = 110
TORCH_FREE = {"base", "report", "tokenizer", "kernels", "checkpoint"}
SUFFIXES = {".h", ".cpp", ".inc"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
TORCH = re.compile(r"^(ATen|c10|torch)/")
FOLDERS = re.compile(r"set\(PTQ_FOLDERS\s+([^)]*)\)")


def sources(root, top):
    return sorted(p for p in (root / top).rglob("*") if p.suffix in SUFFIXES and p.is_file())


def folder_of(path, root):
    """The layer that a file belongs to, or None for tools/."""
    parts = path.relative_to(root).parts
    if parts[0] == "src":
        return parts[1]
    return parts[2] if parts[:2] == ("include", "ptq") else None


def included_folder(name, folders):
    parts = name.split("/")
    if parts[0] == "ptq" and len(parts) > 2:
        return parts[1]
    return parts[0] if len(parts) > 1 and parts[0] in folders else None


def check_file(path, root, folders):
    where = path.relative_to(root)
    own = folder_of(path, root)
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) > MAX_LINES:
        yield f"{where}: {len(lines)} lines; at most {MAX_LINES}"
    if own is not None and own not in folders:
        yield f"{where}: the folder {own} is not in PTQ_FOLDERS"
        return
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_COLUMNS and line.lstrip().startswith("//"):
            yield f"{where}:{number}: a comment of {len(line)} columns; at most {MAX_COLUMNS}"
        match = INCLUDE.match(line)
        if not match:
            continue
        used = included_folder(match[2], folders)
        if used is not None and used not in folders:
            yield f"{where}:{number}: {match[2]} is in no folder of PTQ_FOLDERS"
        elif used is not None and own is not None and folders.index(used) > folders.index(own):
            yield f"{where}:{number}: {own} may not use {used}, which comes after it"
        elif own in TORCH_FREE and TORCH.match(match[2]):
            yield f"{where}:{number}: {own} is free of torch, but includes {match[2]}"


def check_tree(root):
    folders = FOLDERS.search((root / "CMakeLists.txt").read_text(encoding="utf-8"))[1].split()
    for top in ("include", "src", "tools"):
        for path in sources(root, top):
            yield from check_file(path, root, folders)


def self_test():
    """A tree with one mistake of each kind gives one finding of each kind."""
    files = {
        "CMakeLists.txt": "set(PTQ_FOLDERS base\n  report ops)\n",
        "include/ptq/base/good.h": "#include <vector>\n",
        "src/base/up.cpp": '#include "ptq/report/table.h"\n',
        "src/base/up_private.cpp": '  #  include "report/table.h"\n',
        "src/report/torch.cpp": "#include <ATen/ATen.h>\n",
        "src/report/down.cpp": '#include "ptq/base/good.h"\n#include "local.h"\n',
        "src/ops/torch.cpp": "#include <ATen/ATen.h>\n",
        "src/ops/nowhere.cpp": '#include "ptq/utils/x.h"\n',
        "src/helpers/x.cpp": "\n",
        "tools/long.cpp": '#include "ptq/ops/ops.h"\n' * 401,
        "tools/wide.cpp": "// " + "x" * 108 + "\n  // " + "x" * 105 + "\n",
    }
    expected = ["base/up.cpp:1: base may not use report", "base/up_private.cpp:1: base may not use report",
                "helpers is not in PTQ_FOLDERS", "ptq/utils/x.h is in no folder", "report is free of torch",
                "401 lines; at most 400", "wide.cpp:1: a comment of 111 columns"]
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        findings = list(check_tree(root))
    missing = [e for e in expected if not any(e in f for f in findings)]
    if missing or len(findings) != len(expected):
        sys.exit(f"self-test failed: missing {missing}, found {findings}")


def main():
    argument = sys.argv[1] if len(sys.argv) > 1 else str(pathlib.Path(__file__).resolve().parent.parent)
    if argument == "--self-test":
        self_test()
        return
    findings = list(check_tree(pathlib.Path(argument)))
    print("\n".join(findings) or "layers: in order")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
