#!/usr/bin/env python3
"""Holds the docs to their programs: what a page quotes is what they print, and their code.

    quotes.py BIN        BIN: the folder of the built programs
    quotes.py --self-test  shows that a wrong quotation is found

Above a block of a page:
    <!-- output of NAME -->  the block's lines stand together in what BIN/NAME prints
    <!-- output of NAME with AVX-512 -->, <!-- output of NAME without AVX-512 -->  the same on such CPUs
    <!-- figures of NAME -->  the same, but numbers may differ by a fourth of their size, without AVX-512 by
                             half: for what depends on how the machine rounds
    <!-- code of NAME -->    the block is what stands between the marks "Tutorial begin" and
                             "Tutorial end" of examples/tutorial/NAME.cpp
"""
import os
import re
import subprocess
import sys
from pathlib import Path

from cpu import has_avx512

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- (output|figures|code) of (\w+)(?: (with|without) AVX-512)? -->\n```\w*\n"
                   r"(.*?)^```", re.S | re.M)
MARK = re.compile(r"<!-- *(?:output|figures|code) of")
MARKED = re.compile(r"^// Tutorial begin\n(.*?)^// Tutorial end", re.S | re.M)


AVX512 = has_avx512()
# The pages' figures are of a CPU with AVX-512; others add in other orders and train to other weights.
NEAR = 1 / 4 if AVX512 else 1 / 2


def number(word):
    try:
        return float(word)
    except ValueError:
        return None


def nearly(line, other):
    words, others = line.split(), other.split()
    return len(words) == len(others) and all(
        a == b or (None not in (number(a), number(b)) and
                   abs(number(a) - number(b)) <= abs(number(a)) * NEAR)
        for a, b in zip(words, others))


def stands_in(block, output, same=str.__eq__):
    lines, all_lines = block.splitlines(), output.splitlines()
    return any(all(map(same, lines, all_lines[i:])) for i in range(len(all_lines) - len(lines) + 1))


def wrong_quotes(text, output_of, code_of, avx512=AVX512):
    if len(MARK.findall(text)) != len(BLOCK.findall(text)):
        yield "a mark is not spelt as this program's help says, or has no block"
    for kind, name, cpu, block in BLOCK.findall(text):
        if cpu and avx512 != (cpu == "with"):
            continue
        if not block:
            yield f"an empty block quotes {name}"
        elif kind == "output" and not stands_in(block, output_of(name)):
            yield f"{name} does not print:\n{block}"
        elif kind == "figures" and not stands_in(block, output_of(name), nearly):
            yield f"{name} does not print nearly:\n{block}"
        elif kind == "code" and block != code_of(name):
            yield f"the code of {name} is another than:\n{block}"


def stale_curves(text, picture):
    """Lines of the page's tables whose last figure is not where the picture's curve ends."""
    ends = set(re.findall(r"<title>(\w+): (\S+) at K", picture))
    for _, name, _, block in BLOCK.findall(text):
        for line in block.splitlines() if name == "accumulator_error" else ():
            words = line.split()
            if len(words) > 3 and number(words[0]) is None and number(words[1]) is not None and (
                    words[0] != "K" and (words[0], words[-1]) not in ends):
                yield f"docs/accumulator_error.svg does not show: {line}"


def code_of(name):
    return MARKED.search((ROOT / f"examples/tutorial/{name}.cpp").read_text(encoding="utf-8"))[1]


def self_test():
    text = ("<!-- output of one -->\n```\na\nb\n```\n<!-- code of one -->\n```cpp\nc\n```\n"
            "<!-- figures of one -->\n```\nd 1.0\n```\n")
    good = {"output_of": lambda _: "x\na\nb\nd 1.2\n", "code_of": lambda _: "c\n"}
    assert not list(wrong_quotes(text, **good))
    assert len(list(wrong_quotes(text, **{**good, "output_of": lambda _: "a\nx\nb\nd 1.2\n"}))) == 1
    assert len(list(wrong_quotes(text, **{**good, "output_of": lambda _: "a\nb\nd 2.1\n"}))) == 1
    assert len(list(wrong_quotes(text, **{**good, "output_of": lambda _: "a\nb\nd 0.4\n"}))) == 1
    assert len(list(wrong_quotes(text, **{**good, "output_of": lambda _: "a\nb\ne 1.2\n"}))) == 1
    assert len(list(wrong_quotes(text, **{**good, "output_of": lambda _: "a\nb\n"}))) == 1
    assert len(list(wrong_quotes(text, **{**good, "code_of": lambda _: "d\n"}))) == 1
    assert len(list(wrong_quotes("<!-- output of one with AVX512 -->\n```\na\n```\n", **good))) == 1
    for cpu, avx512 in ("with", True), ("without", False):
        text = f"<!-- output of one {cpu} AVX-512 -->\n```\na\nc\n```\n"
        assert len(list(wrong_quotes(text, **good, avx512=avx512))) == 1
        assert not list(wrong_quotes(text, **good, avx512=not avx512))
    table = "<!-- figures of accumulator_error -->\n```\nK   1   2  2048\nbf16  0e+00 2e-03 5e-01\n```\n"
    assert not list(stale_curves(table, "<title>bf16: 5e-01 at K = 2048</title>"))
    assert len(list(stale_curves(table, "<title>bf16: 6e-01 at K = 2048</title>"))) == 1


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    outputs = {}

    def output_of(name):
        if name not in outputs:
            # The pages' bytes of workspace are those of two threads.
            run = subprocess.run([Path(sys.argv[1]) / name], capture_output=True, text=True,
                                 timeout=300, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
            outputs[name] = run.stdout
        return outputs[name]

    picture = (ROOT / "docs/accumulator_error.svg").read_text(encoding="utf-8")
    wrong, quotes = [], 0
    for chapter in [*sorted((ROOT / "docs/tutorial").glob("*.md")), ROOT / "docs/results.md"]:
        text = chapter.read_text(encoding="utf-8")
        quotes += len(BLOCK.findall(text))
        wrong += [f"{chapter.name}: {one}" for one in wrong_quotes(text, output_of, code_of)]
        wrong += stale_curves(text, picture)
    for one in wrong:
        print(one)
    print(f"{quotes} quotations, {len(wrong)} wrong")
    return bool(wrong) or not quotes


sys.exit(main())
