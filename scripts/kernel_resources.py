#!/usr/bin/env python3
"""Prints what every CUDA kernel takes, as the tables of docs/performance.md, from the compiler's report.

    kernel_resources.py BUILD_DIR               prints the tables
    kernel_resources.py BUILD_DIR --check PAGE  exits with 1 and names each difference from the page's

BUILD_DIR: a Release build for sm_80 and sm_90, of accrue_cuda at least. --check exits with 77 where it
cannot tell: no cuobjdump, other flags than Release's, or another nvcc than the page's.
"""
import argparse
import difflib
import re
import shutil
import subprocess
import sys
from pathlib import Path

CUDA = Path(__file__).resolve().parents[1] / "cuda"
RESERVED = {"80": 0, "90": 1024}  # by architecture: what the system adds to a kernel's shared bytes
BLOCK = r"<!-- kernel resources, nvcc (\S+) -->\n.*?<!-- /kernel resources -->\n"
LINE = re.compile(r"^member .*:(?P<object>[^:]+)\.o:$|^arch = sm_(?P<arch>\d+)|^ Function (?P<name>\w+):$"
                  r"|^ +REG:(?P<reg>\d+) STACK:(?P<stack>\d+) SHARED:(?P<shared>\d+) LOCAL:(?P<local>\d+)",
                  re.M)
DEFINITION = re.compile(r"__global__[^;{]*?\b(\w+_kernel)\(")
KERNEL = re.compile(r"[a-z][a-z_]*_kernel(?=[IE])")  # in a mangled name
FORMULA = re.compile(r"each_kernelILi\d+E[fd]Li\d+ELi\d+ELb[01]EN(?:S[0-9A-Z]*_)?(.*)")
ATTENTION = re.compile(r"(forward|queries|keys|dots)_kernelI(?:\w+CutI)?(?:NS_\d)?([fd]|B?Float16)E?"
                       r"(?:Li(\d+)ELb([01]))?")
PARTS = {"forward": "forward", "queries": "backward, dq", "keys": "backward, dk and dv", "dots": "dots"}
DTYPES = {"BFloat16": "bf16", "Float16": "f16", "f": "f32", "d": "f64"}  # mangled, and shown
CUTS = {("64", "0"): "head size ≤ 64", ("64", "1"): "with dropout", ("128", "0"): "≤ 128",
        ("128", "1"): "with dropout", (None, None): "plain"}


class Unknown(Exception):
    """What keeps a check from telling, though nothing need be wrong."""


def formula_of(name):
    """fold::Add, or Slope: what an each_kernel of that mangled name applies."""
    if not (found := FORMULA.search(name)):
        raise ValueError(f"{name}: expected an each_kernel with a formula; see FORMULA")
    rest, parts = found[1], []
    while found := re.match(r"\d+", rest):
        parts.append(rest[found.end():][:int(found[0])])
        rest = rest[found.end() + int(found[0]):]
    return "::".join(parts[-2:]) if "fold" in parts else parts[-1]


def file_of(name, built_from, sources):
    """The file that defines a kernel; the one with the formula for each(); the object's for CUB's."""
    kernel = (KERNEL.search(name) or [""])[0]
    files = [f for f, text in sources.items() if kernel in DEFINITION.findall(text)]
    if files == ["each.cuh"]:
        files = [f for f in built_from if re.search(rf"\b{formula_of(name)}\b", sources[f])]
    if len(files or built_from) != 1:
        raise ValueError(f"{name}: expected it to be of one file, got {files}; see file_of()")
    return (files or built_from)[0]


def parse(report, sources):
    """{mangled name: (file, {architecture: (registers, static shared bytes, stack bytes)})}"""
    kernels, built_from, arch, name = {}, [], "", ""
    for line in LINE.finditer(report):
        if line["object"]:
            built_from = [f"{f}.cu" for f in line["object"].removesuffix(".cu").split("_and_")]
        arch, name = line["arch"] or arch, line["name"] or name
        if line["reg"] and arch in RESERVED:
            use = kernels.setdefault(name, (file_of(name, built_from, sources), {}))[1]
            use[arch] = (int(line["reg"]), max(0, int(line["shared"]) - RESERVED[arch]),
                         int(line["stack"]) + int(line["local"]))
    if not kernels or any(len(use) != len(RESERVED) for _, use in kernels.values()):
        raise Unknown("expected kernels for sm_80 and sm_90; give -DCMAKE_CUDA_ARCHITECTURES='80;90'")
    return kernels


def table(head, rows):
    lines = [f"| {' | '.join(map(str, row))} |" for row in [head, *rows]]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def tables(kernels, version):
    by_file, attention = {}, {}
    for name, (file, use) in kernels.items():
        by_file.setdefault(file, []).append(use)
        if file.startswith("attention") and (found := ATTENTION.search(name)):
            shown, stack = ("/".join(str(use[arch][what]) for arch in RESERVED) for what in (0, 2))
            attention[found.groups()] = shown + (f", stack {stack}" if stack != "0/0" else "")
    files = [("file", "kernels", "registers, sm_80", "sm_90", "static shared bytes", "stack bytes")]
    for file, uses in sorted(by_file.items()):
        most = [max(use[arch][what] for use in uses for arch in RESERVED) for what in (1, 2)]
        registers = [[use[arch][0] for use in uses] for arch in RESERVED]
        spans = ["–".join(map(str, sorted({min(one), max(one)}))) for one in registers]
        files.append((f"`{file}`", len(uses), *spans, *most))
    rows = [(PARTS[part], DTYPES[dtype], *(attention.get((part, dtype, *cut), "") for cut in CUTS))
            for part in PARTS for dtype in DTYPES]
    head = "attention, registers for sm_80/sm_90", "dtype", *CUTS.values()
    return (f"<!-- kernel resources, nvcc {version} -->\n{table(files[0], files[1:])}\n\n"
            f"{table(head, [row for row in rows if any(row[2:])])}\n<!-- /kernel resources -->\n")


def require_version(page, version):
    if (block := re.search(BLOCK, page, re.S)) and block[1] != version:
        raise Unknown(f"the page's figures are of nvcc {block[1]}, the build's of {version}")


def measure(build, page=""):
    """The tables of a build, and its nvcc's version. Unknown where the page's is another."""
    cache, library = build / "CMakeCache.txt", build / "libaccrue_cuda.a"
    found = [f.read_text(encoding="utf-8") for f in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake")]
    if not cache.is_file() or not found or not library.is_file():
        raise ValueError(f"{build}: expected a build with CUDA; give -DACCRUE_CUDA=ON, build accrue_cuda")
    if not re.search(r"^CMAKE_BUILD_TYPE:\w+=Release$", cache.read_text(encoding="utf-8"), re.M):
        raise Unknown(f"{build}: expected a Release build; give -DCMAKE_BUILD_TYPE=Release")
    setting = dict(re.findall(r'set\((\w+) "(.*)"\)', found[0]))
    version = setting["CMAKE_CUDA_COMPILER_VERSION"]
    require_version(page, version)
    packages = [folder for path in sys.path for folder in Path(path).glob("nvidia/cu*/bin")]
    beside = ":".join(map(str, [Path(setting["CMAKE_CUDA_COMPILER"]).parent, *packages]))
    if not (tool := shutil.which("cuobjdump") or shutil.which("cuobjdump", path=beside)):
        raise Unknown("expected cuobjdump in PATH or beside nvcc; install it (PyPI has nvidia-cuda-cuobjdump)")
    run = subprocess.run([tool, "--dump-resource-usage", library], capture_output=True, text=True)
    if run.returncode or "REG:" not in run.stdout:
        raise ValueError(f"{tool} printed no figures: {run.stderr.strip()[-500:]}")
    files = CUDA.glob("*.cu*")
    return tables(parse(run.stdout, {f.name: f.read_text(encoding="utf-8") for f in files}), version), version


def differences(page, measured, version):
    if not (block := re.search(BLOCK, page, re.S)):
        raise ValueError("the page has no block <!-- kernel resources, … -->; put there what this prints")
    require_version(page, version)
    lines, who = difflib.ndiff(block[0].splitlines(), measured.splitlines()), {"-": "page", "+": "build"}
    return [f"the {who[line[0]]} has: {line[2:]}" for line in lines if line[0] in who]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("build", type=Path, metavar="BUILD_DIR", help="a Release build with CUDA")
    parser.add_argument("--check", type=Path, metavar="PAGE", help="compare with its tables")
    options = parser.parse_args()
    try:
        page = options.check.read_text(encoding="utf-8") if options.check else ""
        measured, version = measure(options.build, page)
        if not options.check:
            return print(measured, end="")
        found = differences(page, measured, version)
        print("\n".join(found) or f"{options.check}: as the build")
        return bool(found)
    except (Unknown, ValueError, OSError) as error:
        skipped = isinstance(error, Unknown) and options.check
        print(f"kernel_resources: {'skipped: ' if skipped else ''}{error}", file=sys.stderr)
        return 77 if skipped else 1


if __name__ == "__main__":
    sys.exit(main())
