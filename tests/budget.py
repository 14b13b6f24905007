#!/usr/bin/env python3
"""Holds the tree against its budgets: lines per file, lines of the library, the reading path, the
README's code, and the arrows between folders.

    budget.py [ROOT]      prints what breaks a budget and exits with 1 if anything does
    budget.py --self-test  shows that each rule can fail
"""
import posixpath
import re
import sys
import tempfile
import textwrap
from pathlib import Path

FILE_LINES = 500
LIBRARY_LINES = 15_000
READING_LINES = 1_200
USER_LINES = 10  # of the README's code
BY_HAND_LINES = 99  # one page of a tutorial
# What both CPU and GPU need; cuda/ has some 6,300 lines beside it.
LIBRARY = ("core", "autograd", "nn", "optim")
FOLDERS = LIBRARY + ("examples", "bench", "tests", "scripts", "cuda", "distributed")
SOURCES = {".h", ".cpp", ".py", ".sh", ".cmake", ".cu", ".cuh"}

# What each folder of the library may include besides itself.
ARROWS = {
    "core": set(),
    "core/reference": {"core"},
    "core/cpu": {"core"},
    "autograd": {"core"},
    "nn": {"core", "autograd"},
    "optim": {"core", "autograd"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]')
LISTED_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/[\w.-]+\.(?:h|cpp|py|sh)\b")
READING_PATH = re.compile(r"<!-- reading path -->(.*?)<!-- /reading path -->", re.S)
CODE_BLOCK = re.compile(r"^```(?:cpp|c\+\+)\n(.*?)^```", re.S | re.M)
MARKED_CODE = re.compile(r"^ *// README begin\n(.*?)^ *// README end", re.S | re.M)


def line_count(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def sources(root, folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SOURCES and path.is_file():
                yield path


def check_lines(root):
    total = 0
    for path in sources(root, FOLDERS):
        lines = line_count(path)
        name = path.relative_to(root)
        if name.parts[0] in LIBRARY:
            total += lines
        most = BY_HAND_LINES if name.as_posix() == "examples/by_hand.cpp" else FILE_LINES
        if lines > most:
            yield f"{name}: {lines} lines, at most {most}; split it"
    if total >= LIBRARY_LINES:
        yield f"{', '.join(LIBRARY)}: {total} lines together, {LIBRARY_LINES} or more"


def part_of(path):
    """The architecture's folder that a path lies in; core/cpu is one of its own."""
    two = "/".join(path.split("/")[:2])
    return two if two in ARROWS else path.split("/")[0]


def check_arrows(root):
    for path in sources(root, LIBRARY):
        name = path.relative_to(root).as_posix()
        here = part_of(name)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if not (found := INCLUDE.match(line)):
                continue
            beside = posixpath.normpath(posixpath.join(posixpath.dirname(name), found[1]))
            there = part_of(found[1][7:] if found[1].startswith("accrue/") else beside)
            if there in FOLDERS + tuple(ARROWS) and there != here and there not in ARROWS[here]:
                yield f"{name}:{number}: {here} may not include {there}"


def check_readme(root):
    readme = root / "README.md"
    if not readme.is_file():
        yield "README.md is missing"
        return
    page = readme.read_text(encoding="utf-8")

    path = READING_PATH.search(page)
    items = list(dict.fromkeys(LISTED_PATH.findall(path[1]))) if path else []
    if not items:
        yield "README.md: no list of files between <!-- reading path --> and <!-- /reading path -->"
    missing = [item for item in items if not (root / item).is_file()]
    for item in missing:
        yield f"README.md: the reading path names {item}, which does not exist"
    total = sum(line_count(root / item) for item in items if item not in missing)
    if total > READING_LINES:
        yield f"README.md: the reading path has {total} lines, at most {READING_LINES}"

    block = CODE_BLOCK.search(page)
    program = root / "examples" / "readme.cpp"
    marked = MARKED_CODE.search(program.read_text(encoding="utf-8")) if program.is_file() else None
    if not marked:
        yield "examples/readme.cpp: no code between // README begin and // README end"
    elif not block or block[1] != textwrap.dedent(marked[1]):
        yield "README.md: the first C++ block is not the code marked in examples/readme.cpp"
    elif (lines := len(block[1].splitlines())) > USER_LINES:
        yield f"README.md: the first C++ block has {lines} lines, at most {USER_LINES}"


def violations(root):
    return [*check_lines(root), *check_arrows(root), *check_readme(root)]


def write_file(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_sound_tree(root):
    code = "int main() {}\n"
    files = {
        "core/tensor.h": "// A tensor.\n",
        "core/cpu/matmul.cpp": '#include "accrue/core/tensor.h"\n',
        "autograd/tape.h": '#include "accrue/core/tensor.h"\n',
        "nn/linear.h": '#include "accrue/autograd/tape.h"\n',
        "optim/sgd.h": '#include "accrue/autograd/tape.h"\n',
        "examples/readme.cpp": f"// README begin\n{code}// README end\n",
        "README.md": f"```cpp\n{code}```\n<!-- reading path -->\n"
                     "1. `core/tensor.h`: numbers\n- [tape.h](autograd/tape.h)\n"
                     "* nn/linear.h\n- `optim/sgd.h`\n<!-- /reading path -->\n",
    }
    for name, content in files.items():
        write_file(root / name, content)


def self_test():
    """A sound tree passes; each change below breaks just the rule whose message it names."""
    filler = "int x;\n" * (FILE_LINES - 10)
    long = "int x;\n" * (USER_LINES + 1)
    mistakes = {
        "501 lines, at most 500": {"tests/long.py": "x = 1\n" * 501},
        "100 lines, at most 99": {"examples/by_hand.cpp": "int x;\n" * 100},
        "lines together, 15000 or more": {f"core/f{i}.h": filler for i in range(31)},
        "core may not include autograd": {"core/tensor.h": '#include "accrue/autograd/tape.h"\n'},
        "core may not include core/cpu": {"core/tensor.h": '#include "accrue/core/cpu/vector.h"\n'},
        "core/cpu may not include core/reference":
            {"core/cpu/matmul.cpp": '#include "../reference/loops.h"\n'},
        "autograd may not include nn": {"autograd/tape.h": '#include "accrue/nn/linear.h"\n'},
        "nn may not include optim": {"nn/linear.h": "# include <accrue/optim/sgd.h>\n"},
        "optim may not include nn": {"optim/sgd.h": '#include "../nn/linear.h"\n'},
        "nn may not include tests": {"nn/linear.h": '#include "../tests/help.h"\n'},
        "the reading path names autograd/tape.h": {"autograd/tape.h": None},
        "the reading path has": {f"{name}.h": filler
                                 for name in ("core/tensor", "nn/linear", "optim/sgd")},
        "no list of files": {"README.md": "```cpp\nint main() {}\n```\n"},
        "not the code marked": {"examples/readme.cpp": "// README begin\nint y;\n// README end\n"},
        "no code between": {"examples/readme.cpp": "int main() {}\n"},
        "block has 11 lines": {
            "examples/readme.cpp": f"// README begin\n{long}// README end\n",
            "README.md": f"```cpp\n{long}```\n<!-- reading path -->\ncore/tensor.h\n"
                         "<!-- /reading path -->\n"},
    }
    failed = []
    for message, changes in mistakes.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_sound_tree(root)
            if violations(root):
                failed.append(f"a sound tree is refused: {violations(root)}")
            for name, content in changes.items():
                if content is None:
                    (root / name).unlink()
                else:
                    write_file(root / name, content)
            found = violations(root)
            if len(found) != 1 or message not in found[0]:
                failed.append(f"expected one violation with '{message}', got {found}")
    return failed


def main():
    if sys.argv[1:] == ["--self-test"]:
        found = self_test()
    else:
        root = sys.argv[1] if sys.argv[1:] else Path(__file__).resolve().parents[1]
        found = violations(Path(root))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
