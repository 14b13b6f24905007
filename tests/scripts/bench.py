#!/usr/bin/env python3
"""Runs the benchmarks with tiny sizes: they end, and print what the reports read.

    bench.py BIN
"""
import json
import math
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BIN = Path(sys.argv.pop(1))


COMPARE = Path(__file__).parents[2] / "bench" / "peers" / "compare.py"
# In PyTorch's place: two cycles, of which the second counts and is said to take half a second.
PEER = """#!/usr/bin/env python3
print("a library's notice")
for _ in range(2):
    print("ready", flush=True)
    input()
print('{"torch": "none", "rows": [{"seconds_by_cycle": [0.5], "tokens_per_second": 1}]}')
"""


def run(name, *flags, given=None):
    return subprocess.run([BIN / name, *map(str, flags)], input=given, capture_output=True, text=True,
                          check=False)


class Bench(unittest.TestCase):
    def result(self, name, *flags):
        """What it printed, and what it said on the way."""
        ended = run(name, *flags)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return json.loads(ended.stdout.splitlines()[-1]), ended.stderr

    def positive(self, *numbers):
        for number in numbers:
            self.assertTrue(math.isfinite(number) and number > 0, number)

    def test_training(self):
        flags = ["--model", "width128", "--context", 8, "--vocabulary", 128, "--chunk", 5,
                 "--effective-batch", 3, "--micro-batch", 2, 1, "--cycles", 1, "--profile"]
        result, profile = self.result("bench_train", *flags)
        self.assertIn("CrossEntropyBackward", profile)
        self.assertEqual([result[key] for key in ("device", "context", "vocabulary", "chunk")],
                         ["cpu", 8, 128, 5])
        self.assertEqual([row["micro_batch"] for row in result["rows"]], [2, 1])
        for row in result["rows"]:
            self.positive(row["gflops"], row["of_best_gemm"], row["over_floor"], row["over_first"])

    def test_cycles_wait_for_their_turns(self):
        flags = ["--model", "width128", "--context", 8, "--vocabulary", 128, "--effective-batch", 2,
                 "--micro-batch", 2, 1, "--cycles", 1, "--turns"]
        ended = run("bench_train", *flags, given="\n" * 4)  # two sizes, two rounds
        lines = ended.stdout.splitlines()
        self.assertEqual((ended.returncode, lines[:-1]), (0, ["ready"] * 4), ended.stderr)
        self.assertEqual([len(row["seconds_by_cycle"]) for row in json.loads(lines[-1])["rows"]],
                         [1, 1])
        ended = run("bench_train", *flags, given="\n" * 3)
        self.assertEqual((ended.returncode, ended.stdout), (1, "ready\n" * 4))
        self.assertIn("--turns: expected a line for each cycle", ended.stderr)

    def test_a_peer_takes_turns_with_training(self):
        with tempfile.TemporaryDirectory() as folder:
            peer = Path(folder) / "python"
            peer.write_text(PEER)
            peer.chmod(0o755)
            flags = ["--work", "width128:f32:12", "--cycles", "1", "--threads", "2"]
            ended = subprocess.run([sys.executable, COMPARE, BIN, "--python", peer, *flags],
                                   capture_output=True, text=True, check=False)
            self.assertEqual(ended.returncode, 0, ended.stderr)
            result = json.loads(ended.stdout)
            self.positive(result["over_torch"], result["over_floor"])
            own = 12 * 64 / result["tokens_per_second"]  # seconds of its one cycle
            self.assertAlmostEqual(result["over_torch"] * own, 0.5, places=6)
            peer.write_text("#!/bin/sh\necho no torch here >&2; exit 3\n")
            ended = subprocess.run([sys.executable, COMPARE, BIN, "--python", peer, *flags],
                                   capture_output=True, text=True, check=False)
            self.assertEqual(ended.returncode, 1)
            self.assertIn("no torch here", ended.stderr)

    def test_kernels(self):
        result, _ = self.result("bench_kernels", "--mib", 1, "--repeats", 1,
                                "--gradient-vocabulary", 256, "--gradient-hidden", 32,
                                "--gradient-rows", 64)
        rows = result["kernels"]
        self.assertGreater(len(rows), 20)
        self.positive(result["copy_gb_per_second"], *(row["of_copy"] for row in rows))
        self.assertEqual({row["by"] for row in result["attention"]}, {"own"})
        self.positive(*(row["tflops"] for row in result["attention"]))
        gradient = {row["way"]: row for row in result["weight_gradient"]}
        # The temporaries that each way takes: none, f32, bf16 and f32.
        least = gradient["in place"]["extra_peak_bytes"]
        self.assertGreaterEqual(gradient["f32 temporary, add"]["extra_peak_bytes"],
                                least + 256 * 32 * 4)
        self.assertGreaterEqual(gradient["bf16 result, f32 copy, add"]["extra_peak_bytes"],
                                least + 256 * 32 * 6)

    def test_choices_of_accumulation(self):
        flags = ["--layers", 1, "--width", 12, "--context", 8, "--effective-batch", 4,
                 "--micro-batch", 2, "--cycles", 1]
        result, _ = self.result("bench_accumulate", *flags)
        rows = {row["choice"]: row for row in result["rows"]}
        self.assertEqual(rows["baseline"]["micro_batch"], 4)
        self.assertEqual(rows["kahan"]["micro_batch"], 2)
        self.assertGreaterEqual(len(rows), 14)  # seven accumulators, two tiers, the others
        self.positive(result["record_microseconds"], *(row["over_baseline"] for row in rows.values()),
                      *(row["over_f32"] for row in rows.values()))
        self.assertEqual(rows["f32"]["over_f32"], 1)
        for row in rows.values():
            for ratio in ("over_baseline", "over_f32"):
                least, most = row[f"{ratio}_95"]
                self.assertTrue(least <= row[ratio] <= most, row)

    def test_checkpoints(self):
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--folder", f"{folder}/made", "--rounds", 1, "--layers", 1, "--vocabulary", 16]
            result, _ = self.result("bench_checkpoint", *flags)
            self.positive(*(result[key] for key in ("of_the_disk", "save_blocks_ms", "copy_ms",
                                                    "save_behind_another_ms")))
            self.assertEqual(os.listdir(folder), [])

    def test_bad_usage(self):
        for name, flags in (("bench_train", ["--micro-batch", 99]), ("bench_train", ["--model", "x"]),
                            ("bench_kernels", ["--mib", 0]), ("bench_kernels", ["--fast"])):
            ended = run(name, *flags)
            self.assertEqual((ended.returncode, ended.stdout), (2, ""), name)
            self.assertIn("try --help", ended.stderr)

    def test_without_a_gpu_they_say_so(self):
        small = ["--device", "cuda", "--kernel", "Fill", "--every", 1000]
        if run("cross_check", *small).returncode == 0:
            self.skipTest("there is a GPU")
        for name, flags in (("bench_train", small[:2]), ("bench_kernels", small[:2]),
                            ("cross_check", small)):
            ended = run(name, *flags)
            self.assertEqual((ended.returncode, ended.stdout), (1, ""), name)
            self.assertIn("[device] expected", ended.stderr)


if __name__ == "__main__":
    unittest.main()
