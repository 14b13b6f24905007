#!/usr/bin/env python3
"""Runs scripts/gpu_check.sh where there is no GPU: with programs in their place that only print."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TABLE = {"rows": [{"kernel": "Matmul", "cases": 3, "failed": 0, "error_over_allowed": 0.5,
                   "worst_case": "bf16 3x7", "same_bits_twice": True}]}
ROW = {"micro_batch": 64, "gflops": 4e5, "of_best_gemm": 0.55, "over_floor": 1.2, "over_first": 1.0,
       "tokens_per_second": 1e6, "replayed": 40, "eager": 0, "why_eager": ""}
TRAIN = {"rows": [ROW, {**ROW, "micro_batch": 32, "over_first": 1.25, "replayed": 0, "eager": 80,
                    "why_eager": "no blocks"}]}
KERNELS = {"copy_gb_per_second": 4000, "slope_in_product": True,
           "kernels": [{"kernel": "gelu", "of_copy": 0.75}],
           "attention": [{"way": "forward", "by": "own", "head_size": 64, "dropout": 0.1,
                          "tflops": 300},
                         {"way": "backward", "by": "cudnn", "head_size": 64, "refused": "code 5"}],
           "weight_gradient": [{"way": "in place", "milliseconds": 3, "peak_bytes": 2 ** 31,
                                "over_in_place": 1, "extra_peak_bytes": 2 ** 26},
                               {"way": "f32 temporary, add", "milliseconds": 6,
                                "peak_bytes": 2 ** 32, "over_in_place": 2}]}
RUN = {"best_val_loss": 1.46, "seconds": 59.5}


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.tools = self.folder / "tools"
        for name in ("scripts", "docs/tutorial", "autograd", "core"):
            shutil.copytree(ROOT / name, self.folder / name)
        self.program("tools/cmake", "exit 0")
        self.program("tools/ctest", "exit 0")
        self.program("tools/compute-sanitizer", "exit 0")
        self.program("tools/nvidia-smi", "echo 'Some GPU, 1 MiB, 580.1, 9.0'")
        for name, result in (("cross_check", TABLE), ("bench_train", TRAIN), ("train_gpt", RUN),
                             ("bench_kernels", KERNELS)):
            self.program(f"build/gpu/bin/{name}", f"echo working; echo '{json.dumps(result)}'")

    def program(self, name, body):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def check(self, *flags, path=None):
        """Exit status, stderr, and the report where there is one."""
        environment = {**os.environ, "PATH": path or f"{self.tools}:{os.environ['PATH']}"}
        ended = subprocess.run(["bash", self.folder / "scripts/gpu_check.sh", *map(str, flags)],
                               cwd=self.folder, env=environment, capture_output=True, text=True,
                               check=False)
        report = self.folder / "build/gpu/report/gpu_check.json"
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else None
        return ended.returncode, ended.stderr, found

    def test_everything_passes_and_figures_stand_beside_their_targets(self):
        text = self.folder / "text.txt"
        text.write_text("to be")
        status, words, report = self.check(
            "--only", "build,tests,table,sanitizer,bench,text", "--text", text)
        self.assertEqual((status, report["failed"]), (0, []), words)
        met = {row["what"]: row["met"] for row in report["figures"]}
        self.assertIs(met["GPT-2 124M, bf16, micro-batch 64: of the best product"], True)
        self.assertIs(met["GPT-2 124M, bf16, micro-batch 32: time over that of 64"], False)
        self.assertIs(met["gelu, bf16: of the copy"], False)
        # What other kernels, or none in a graph, would hide.
        self.assertIs(met["GPT-2 124M, bf16, micro-batch 64: micro-batches replayed from graphs"], True)
        self.assertIs(met["GPT-2 124M, bf16, micro-batch 32: micro-batches replayed from graphs"], False)
        self.assertIs(met["attention backward, head size 64: taken by cuDNN"], False)
        self.assertIs(met["gelu's slope: taken by cuBLASLt"], True)
        self.assertIs(met["weight gradient, f32 temporary, add: time over in place"], True)
        self.assertIs(met["weight gradient, in place: extra peak MiB"], False)
        self.assertIs(met["tinyshakespeare: seconds, median"], True)
        table = (self.folder / "build/gpu/report/gpu_check.txt").read_text(encoding="utf-8")
        self.assertRegex(table, r"Matmul +3 +0 +0\.5 +yes  bf16 3x7")
        self.assertRegex(table, "taken by cuDNN +0  ≥ 1 +MISSED code 5")
        self.assertRegex(table, "replayed from graphs +0.00  ≥ 0.9 +MISSED no blocks")
        self.assertTrue((self.folder / "build/gpu/report/logs.tar.gz").exists())

    def test_pytorchs_side_is_the_faster_of_two_and_its_ratio_theirs(self):
        slow = {"rows": [{**ROW, "tokens_per_second": 4e5},
                         {**ROW, "micro_batch": 32, "tokens_per_second": 5e5, "over_first": 1.0}]}
        fast = {"rows": [{**ROW, "tokens_per_second": 8e5},
                         {**ROW, "micro_batch": 32, "tokens_per_second": 2e5, "over_first": 1.0}]}
        self.program("tools/python3", "case \"$*\" in *max-autotune*) "
                     f"echo '{json.dumps(fast)}';; *train_torch*) echo '{json.dumps(slow)}';; "
                     f"*'import torch'*) ;; *) exec {sys.executable} \"$@\";; esac")
        _, words, report = self.check("--only", "bench,peers")
        shown = {row["what"]: row["value"] for row in report["figures"]}
        name = "GPT-2 124M, bf16, micro-batch"
        self.assertAlmostEqual(shown[f"{name} 64: speed over PyTorch's"], 1.25, msg=words)
        self.assertAlmostEqual(shown[f"{name} 32: speed over PyTorch's"], 2)
        self.assertAlmostEqual(shown[f"{name} 32: PyTorch's ratio"], 1.6)

    def test_parts_that_fail_are_named_and_stop_nothing(self):
        self.program("tools/ctest", "echo 'one test failed'; exit 8")
        (self.folder / "build/gpu/bin/cross_check").unlink()
        self.program("build/gpu/bin/bench_kernels", "sleep 60")
        status, _, report = self.check("--only", "tests,table,bench", "--limit", 1)
        self.assertEqual(status, 1)
        self.assertEqual(report["failed"],
                         ["tests", "table", "bench_kernels_bf16", "bench_kernels_f32"])
        parts = {part["part"]: part for part in report["parts"]}
        self.assertEqual(parts["bench_gpt2_bf16"]["status"], 0)
        self.assertEqual(parts["tests"]["last_lines"], ["one test failed"])
        self.assertEqual(parts["bench_kernels_f32"]["status"], 124)

    def test_parts_can_be_run_one_after_the_other(self):
        self.check("--only", "table")
        _, _, report = self.check("--only", "tests", "--continue")
        self.assertEqual([part["part"] for part in report["parts"]], ["table", "tests"])
        _, _, report = self.check("--only", "tests")
        self.assertEqual([part["part"] for part in report["parts"]], ["tests"])

    def test_without_a_text_that_part_is_skipped(self):
        status, _, report = self.check("--only", "text")
        self.assertEqual((status, report["parts"][0]["status"]), (0, "skipped"))

    def test_without_a_gpu_it_says_so(self):
        self.program("tools/nvidia-smi", "exit 9")
        status, words, report = self.check()
        self.assertEqual((status, report), (1, None))
        self.assertIn("no GPU here", words)

    def test_wrong_usage(self):
        for flags in (["--fast"], ["--only"], ["--only", "everything"], ["--text", "/missing"]):
            status, words, _ = self.check(*flags)
            self.assertEqual(status, 2, flags)
            self.assertIn("try --help", words)
        self.assertEqual(self.check("--help")[0], 0)


if __name__ == "__main__":
    unittest.main()
