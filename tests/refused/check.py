#!/usr/bin/env python3
"""Compiles a program as it should be, which must work, and with its mistake (-DMISTAKE), which must be
refused with the diagnostic that its first line gives as a regular expression: `// refused: REGEX`.
A program without such a line must only compile.

    check.py PROGRAM COMPILER [OPTION…]
    check.py --self-test COMPILER       shows that each way to fail is seen
"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

OPTIONS = ["-std=c++20", "-fsyntax-only", "-Wall", "-Werror=unused-result"]


def compile_program(program, command):
    done = subprocess.run([*command, *OPTIONS, str(program)], text=True, capture_output=True,
                          env={**os.environ, "LC_ALL": "C"}, check=False)
    return done.returncode == 0, done.stderr


def check(program, command):
    """What is wrong, or None."""
    first = program.read_text(encoding="utf-8").splitlines()[0]
    accepted, output = compile_program(program, command)
    if not accepted:
        return f"the right program does not compile:\n{output}"
    if not first.startswith("// refused: "):
        return None
    accepted, output = compile_program(program, [*command, "-DMISTAKE"])
    if accepted:
        return "the mistake compiles"
    errors = "\n".join(line for line in output.splitlines() if "error:" in line)
    if not re.search(first.removeprefix("// refused: "), errors):
        return f"refused, but not for the reason that the first line gives:\n{output}"
    return None


def self_test(command):
    right, wrong = "#ifndef MISTAKE\nint x;\n#endif\n", "#ifdef MISTAKE\nint x = y;\n#endif\n"
    cases = {  # program → part of the finding
        f"// refused: 'y' was not declared\n{wrong}": None,
        f"// refused: 'y' was not declared\n{right}": "the mistake compiles",
        f"// refused: no member named 'z'\n{wrong}": "not for the reason",
        "// refused: 'y' was not declared\nint x = y;\n": "does not compile",
        "int x = y;\n": "does not compile",
        "int x;\n": None,
    }
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.cpp"
        for text, expected in cases.items():
            program.write_text(text)
            found = check(program, command)
            if (found is None) != (expected is None) or (expected and expected not in found):
                return f"{text}\nexpected {expected}, got {found}"
    return None


def main():
    program, *command = sys.argv[1:]
    found = self_test(command) if program == "--self-test" else check(Path(program), command)
    if found:
        print(f"{program}: {found}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
