#!/usr/bin/env python3
"""Trains by bench_train and train_torch.py, on the same work with the same threads, a cycle of each
in turns, and prints the medians and how many times as fast as PyTorch a cycle was.

    compare.py build/bin [--python PYTHON_WITH_TORCH] [--work gpt2:f32:4 width384:f32:16,1 …]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# model:dtype:micro-batches
WORKS = ["width128:f32:12,1", "width128:bf16:12", "width384:f32:16,1", "width384:bf16:16,1",
         "gpt2:f32:4", "gpt2:bf16:4"]


class Trainer:
    """A program with --turns: it runs a cycle for each line that it is sent."""

    def __init__(self, command):
        self.command, self.errors = command, tempfile.TemporaryFile(mode="w+")
        self.process = subprocess.Popen(
            [*map(str, command), "--turns"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, env={"GOMP_SPINCOUNT": "20000", **os.environ})
        self.result = None  # its JSON, once it has run all cycles
        self.wait()

    def wait(self):
        last = ""
        for line in self.process.stdout:
            if line == "ready\n":
                return
            last = line
        if self.process.wait() != 0 or not last:
            self.errors.seek(0)
            sys.exit(f"{' '.join(map(str, self.command))} failed:\n{self.errors.read()[-1000:]}")
        self.result = json.loads(last)

    def turn(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # wait() says what it died of
        self.wait()


def train(work, options):
    """What both programs say."""
    model, dtype, sizes = work.split(":")
    flags = ["--model", model, "--dtype", dtype, "--micro-batch", *sizes.split(","),
             "--cycles", options.cycles]
    ours = Trainer([options.bin / "bench_train", *flags])
    torch = Trainer([options.python, Path(__file__).with_name("train_torch.py"), *flags,
                     "--threads", options.threads])
    cycles = 0
    while ours.result is None or torch.result is None:
        print(f"{work}: cycle {cycles} of {len(sizes.split(',')) * (options.cycles + 1)}",
              file=sys.stderr, end="\r")
        ours.turn()
        torch.turn()
        cycles += 1
    print(file=sys.stderr)
    return ours.result, torch.result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("bin", type=Path, help="folder of the built programs")
    parser.add_argument("--python", default=sys.executable, help="one that has torch")
    parser.add_argument("--work", nargs="+", default=WORKS, metavar="MODEL:DTYPE:SIZES")
    parser.add_argument("--cycles", type=int, default=15, help="measured cycles of each size")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    for work in options.work:
        if work.count(":") != 2:
            parser.error(f"--work: expected MODEL:DTYPE:SIZES as in {WORKS[0]}, got {work}")
    for work in options.work:
        ours, torch = train(work, options)
        for row, other in zip(ours["rows"], torch["rows"]):
            ratios = [theirs / own for own, theirs in
                      zip(row["seconds_by_cycle"], other["seconds_by_cycle"])]
            print(json.dumps({
                "model": ours["model"], "dtype": ours["dtype"], "micro_batch": row["micro_batch"],
                "torch": torch["torch"], "over_torch": statistics.median(ratios),
                "over_torch_by_cycle": [round(one, 3) for one in ratios],
                **{key: row[key] for key in ("tokens_per_second", "over_floor", "of_best_gemm",
                                             "over_first", "gflops", "best_gemm_gflops")},
                "torch_tokens_per_second": other["tokens_per_second"]}), flush=True)


main()
