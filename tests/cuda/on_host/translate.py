#!/usr/bin/env python3
"""translate.py FROM TO: makes C++ of a file with CUDA kernels. Launches become calls of on_host::launch,
PTX becomes the C++ that it stands for; all else is left to the headers beside this script."""
import re
import sys
from pathlib import Path

PTX = [
    (r'asm volatile\("st\.global\.v[24]\.u32.*?\);', "*to = x;"),
    (r'asm\("ex2\.approx\.ftz\.f32 %0, %1;" : "=f"\((\w+)\) : "f"\(([^;]*)\)\);', r"\1 = exp2f(\2);"),
]
SHARED = re.compile(r"(__shared__ [^;]+?(\w+)(?:\[[^;]*\])+;)")
OPENING, CLOSING = "([{", ")]}"


def end_of_arguments(text, start):
    """Behind the parenthesis that closes the one at `start`."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] in OPENING) - (text[at] in CLOSING)
        if depth == 0:
            return at + 1
    raise ValueError("a launch without end")


def start_of_kernel(text, end):
    """Of `kernel` or `kernel<…>` that ends before `end`."""
    at = len(text[:end].rstrip())
    depth = 0
    while depth or text[at - 1] == ">":
        at -= 1
        depth += (text[at] == ">") - (text[at] == "<")
    while re.match(r"\w", text[at - 1]):
        at -= 1
    return at


def split_arguments(text):
    parts, depth = [""], 0
    for character in text:
        depth += (character in OPENING) - (character in CLOSING)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def translate(text):
    for pattern, replacement in PTX:
        text = re.sub(pattern, replacement, text, flags=re.DOTALL)
    if "asm" in re.findall(r"\w+", text):
        raise ValueError("PTX that is not known here")
    text = SHARED.sub(r"\1 ::on_host::shared(\2, sizeof \2);", text)
    while "<<<" in text:
        begin = text.index("<<<")
        end = text.index(">>>", begin)
        first = start_of_kernel(text, begin)
        last = end_of_arguments(text, end + 3)
        grid, block = split_arguments(text[begin + 3:end])[:2]
        kernel = text[first:begin].strip() + text[end + 3:last]
        text = f"{text[:first]}::on_host::launch({grid}, {block}, [&] {{ {kernel}; }}){text[last:]}"
    return text


def main():
    source, target = map(Path, sys.argv[1:])
    text = translate(source.read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'#line 1 "{source}"\n{text}', encoding="utf-8")


if __name__ == "__main__":
    main()
