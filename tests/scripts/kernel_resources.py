#!/usr/bin/env python3
"""What scripts/kernel_resources.py makes of a report as cuobjdump prints it, and that it finds differences.

The page's own tables are compared by the test kernel_resources, where the build has CUDA.
"""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "kernel_resources.py"
sys.path.insert(0, str(SCRIPT.parent))
import kernel_resources  # noqa: E402

SOURCES = {
    "each.cuh": "__global__ void __launch_bounds__(threads)\n    each_kernel(Formula formula, Args args) {",
    "copy.cu": "struct ScaleInto {};\neach<1>(ScaleInto<float>(), {to, from});",
    "map.cu": "template void map(const kernel::Map<fold::Add>&, void*);",
    "sum.cu": "__global__ void __launch_bounds__(threads, 2) rows_kernel(const From* from) {\n join(Add());",
    "attention_forward.cuh": "__global__ void attention_forward_kernel(const ForwardArgs args) {",
    "attention_plain.cu": "__global__ void plain_keys_kernel(const BackwardArgs args) {",
    "radix_sort.cu": "cub::DeviceRadixSort::SortPairs(…);",
}
EACH = "_ZN6accrue4cuda6detail11each_kernelILi1EfLi4ELi8ELb1E"
UNNAMED = "_GLOBAL__N__0a1b2c3d_7_copy_cu_4a41bfba"
UNNAMED = f"{len(UNNAMED)}{UNNAMED}"  # as the compiler writes a namespace without a name
TILED = "_ZN6accrue4cuda24attention_forward_kernelINS0_10ForwardCutINS_8BFloat16ELi64ELb1EEEEEvT_"
PLAIN = f"_ZN6accrue4cuda{UNNAMED}17plain_keys_kernelIddEEvT_"
# object: {mangled name: (registers, stack, shared) for sm_80 and for sm_90}
OBJECTS = {
    "copy_and_map_and_sum": {
        f"{EACH}NS0_{UNNAMED}9ScaleIntoIfEEJffEEEvT_": ((30, 0, 0), (32, 0, 0)),
        f"{EACH}NS_4fold3AddEJffEEEvT_": ((22, 0, 0), (22, 0, 0)),
        f"_ZN6accrue4cuda{UNNAMED}11rows_kernelIfEEvPKT_": ((40, 0, 256), (48, 0, 1280)),
        f"_ZN6accrue4cuda{UNNAMED}11rows_kernelIdEEvPKT_": ((16, 0, 128), (18, 0, 1152)),
    },
    "attention_forward_bf16_and_attention_plain": {
        TILED: ((240, 0, 0), (236, 0, 1024)), PLAIN: ((128, 8, 512), (128, 16, 1536))},
    "radix_sort": {"_ZN3cub21CUB_300001_SM_800_9006detail11EmptyKernelIvEEvv": ((4, 0, 0), (4, 0, 0))},
}
TABLES = """<!-- kernel resources, nvcc 13.0.88 -->
| file | kernels | registers, sm_80 | sm_90 | static shared bytes | stack bytes |
|---|---|---|---|---|---|
| `attention_forward.cuh` | 1 | 240 | 236 | 0 | 0 |
| `attention_plain.cu` | 1 | 128 | 128 | 512 | 16 |
| `copy.cu` | 1 | 30 | 32 | 0 | 0 |
| `map.cu` | 1 | 22 | 22 | 0 | 0 |
| `radix_sort.cu` | 1 | 4 | 4 | 0 | 0 |
| `sum.cu` | 2 | 16–40 | 18–48 | 256 | 0 |

| attention, registers for sm_80/sm_90 | dtype | head size ≤ 64 | with dropout | ≤ 128 | with dropout | plain |
|---|---|---|---|---|---|---|
| forward | bf16 |  | 240/236 |  |  |  |
| backward, dk and dv | f64 |  |  |  |  | 128/128, stack 8/16 |
<!-- /kernel resources -->
"""


def report(architectures=("80", "90")):
    text = "\nmember /build/libaccrue_cuda.a:runtime.cpp.o:\n"
    for name, kernels in OBJECTS.items():
        text += f"\nmember /build/libaccrue_cuda.a:{name}.cu.o:\n"
        for at, arch in enumerate(architectures):
            text += (f"\nFatbin ptx code:\n================\narch = sm_{arch}\ncode version = [9,0]\n"
                     f"\nFatbin elf code:\n================\narch = sm_{arch}\nhost = linux\n"
                     "\nResource usage:\n Common:\n  GLOBAL:29 CONSTANT[4]:232\n")
            for kernel, use in kernels.items():
                registers, stack, shared = use[at]
                text += (f" Function {kernel}:\n  REG:{registers} STACK:{stack} SHARED:{shared} LOCAL:0 "
                         "CONSTANT[0]:624 TEXTURE:0 SURFACE:0 SAMPLER:0\n")
    return text


def tables(text, sources=SOURCES):
    return kernel_resources.tables(kernel_resources.parse(text, sources), "13.0.88")


def run(*arguments):
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stderr


class KernelResources(unittest.TestCase):
    maxDiff = None

    def test_kernels_are_counted_for_their_files(self):
        self.assertEqual(tables(report()), TABLES)

    def test_a_page_with_the_same_tables_has_no_difference(self):
        self.assertEqual(kernel_resources.differences(f"Text.\n\n{TABLES}\nMore.", TABLES, "13.0.88"), [])

    def test_every_change_of_the_report_is_found(self):
        for old, new in (("REG:40", "REG:41"), ("STACK:16", "STACK:24"), ("LOCAL:0", "LOCAL:4"),
                         ("SHARED:256", "SHARED:512"), ("REG:236", "REG:235"),
                         ("rows_kernelId", "rows_kernelIf"), ("ELi64", "ELi128")):
            self.assertIn(old, report())
            found = kernel_resources.differences(TABLES, tables(report().replace(old, new)), "13.0.88")
            self.assertTrue(any(line.startswith("the page has: | ") for line in found), (old, found))
            self.assertTrue(any(line.startswith("the build has: | ") for line in found), (old, found))

    def test_what_it_cannot_place_is_an_error(self):
        with self.assertRaisesRegex(ValueError, "ScaleInto.*one file"):
            tables(report(), {**SOURCES, "copy.cu": ""})
        with self.assertRaisesRegex(ValueError, "with a formula"):
            kernel_resources.formula_of("each_kernel_of_another_compiler")
        with self.assertRaisesRegex(ValueError, "no block"):
            kernel_resources.differences("Text.\n", TABLES, "13.0.88")

    def test_a_check_against_another_build_cannot_tell(self):
        with self.assertRaisesRegex(kernel_resources.Unknown, "13.0.88.*12.4.131"):
            kernel_resources.differences(TABLES, TABLES, "12.4.131")
        with self.assertRaisesRegex(kernel_resources.Unknown, "sm_80 and sm_90"):
            tables(report(["90"]))
        with self.assertRaisesRegex(kernel_resources.Unknown, "sm_80 and sm_90"):
            tables(report(["86", "89"]))

    def test_wrong_usage_and_builds_without_cuda(self):
        self.assertEqual(run()[0], 2)
        self.assertEqual(run("build", "--no-such-flag")[0], 2)
        with tempfile.TemporaryDirectory() as folder:
            for flags in ([], ["--check", SCRIPT]):
                status, said = run(folder, *flags)
                self.assertEqual(status, 1)
                self.assertIn("-DACCRUE_CUDA=ON", said)

    def test_without_cuobjdump_it_says_what_to_install_and_a_check_skips(self):
        with tempfile.TemporaryDirectory() as folder:
            build = Path(folder)
            (build / "CMakeFiles" / "3.25.1").mkdir(parents=True)
            (build / "CMakeFiles" / "3.25.1" / "CMakeCUDACompiler.cmake").write_text(
                f'set(CMAKE_CUDA_COMPILER "{folder}/nvcc")\nset(CMAKE_CUDA_COMPILER_VERSION "13.0.88")\n')
            (build / "CMakeCache.txt").write_text("CMAKE_BUILD_TYPE:STRING=Release\n")
            (build / "libaccrue_cuda.a").write_text("")
            for flags, expected in (([], 1), (["--check", SCRIPT], 77)):
                done = subprocess.run([sys.executable, "-I", "-S", SCRIPT, folder, *flags], env={"PATH": folder},
                                      capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, "install" in done.stderr), (expected, True), done.stderr)


if __name__ == "__main__":
    unittest.main()
