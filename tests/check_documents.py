#!/usr/bin/env python3
"""Holds README.md and src/README.md to the tree: every path and every option that they name is there.

A path is a word in backquotes or in a code block that begins with a folder of the tree. <name> and NAME in it stand
for anything. build/tools/PROGRAM is there if tools/PROGRAM.cpp is. An option is there if the sources spell it.
Usage: check_documents.py [ROOT | --self-test]. Exit code 1 if anything is wrong, with one line for each finding.
"""
import pathlib
import re
import sys
import tempfile

DOCUMENTS = ("README.md", "src/README.md")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
PATH = re.compile(r"(?<![\w/.-])((?:build/tools|src|include|tests|tools|scripts|configs)/[\w<>*./{},+-]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
PLACEHOLDER = re.compile(r"<[^>]*>|\b[A-Z]{4,}\b(?=[./]|$)")
# Of other programs that the documents call.
FOREIGN = {"--preset", "--build", "--install", "--prefix", "--nproc-per-node", "--no-python"}


def is_there(root, path):
    path = path.rstrip("./,")
    if path.startswith("build/tools/"):
        path = path.removeprefix("build/") + ".cpp"
    if (root / path).exists():
        return True
    pattern = PLACEHOLDER.sub("*", path)
    return "*" in pattern and any(root.glob(pattern))


def spelled_options(root):
    spelled = set()
    for top in ("tools", "scripts", "src"):
        for path in (root / top).rglob("*"):
            if path.is_file() and path.suffix != ".md":
                spelled.update(OPTION.findall(path.read_text(encoding="utf-8", errors="replace")))
    return spelled


def check_tree(root):
    spelled = spelled_options(root) | FOREIGN
    for document in DOCUMENTS:
        text = (root / document).read_text(encoding="utf-8")
        for code in CODE.finditer(text):
            line = text.count("\n", 0, code.start()) + 1
            for path in PATH.findall(code[0]):
                if not is_there(root, path):
                    yield f"{document}:{line}: {path} is not there"
            for option in OPTION.findall(code[0]):
                if option not in spelled:
                    yield f"{document}:{line}: no program has the option {option}"


def self_test():
    """A document with one mistake of each kind gives one finding of each kind."""
    files = {
        "README.md": "`src/a.cpp` `src/gone.cpp` `src/<name>.cpp` `configs/NAME.json` `build/tools/run` `build/tools/walk`\n"
                     "```\nrun --here --gone\nctest --preset release\n```\n",
        "src/README.md": "No code: src/gone.cpp --gone\n",
        "src/a.cpp": "\n",
        "tools/run.cpp": 'add_option("--here");\n',
    }
    expected = ["README.md:1: src/gone.cpp", "README.md:1: configs/NAME.json", "README.md:1: build/tools/walk",
                "README.md:2: no program has the option --gone"]
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8")
        findings = list(check_tree(root))
    missing = [e for e in expected if not any(f.startswith(e) for f in findings)]
    if missing or len(findings) != len(expected):
        sys.exit(f"self-test failed: missing {missing}, found {findings}")


def main():
    argument = sys.argv[1] if len(sys.argv) > 1 else str(pathlib.Path(__file__).resolve().parent.parent)
    if argument == "--self-test":
        self_test()
        return
    findings = list(check_tree(pathlib.Path(argument)))
    print("\n".join(findings) or "documents: in order")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
