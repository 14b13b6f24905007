#!/usr/bin/env python3
"""Runs bench_train and train_torch.py in turns, on the same work with the same threads, and prints
the medians of what they say over the rounds.

    compare.py build/bin [--python PYTHON_WITH_TORCH] [--work gpt2:f32:4 width384:f32:16,1 …]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

# model:dtype:micro-batches:cycles
WORKS = ["width128:f32:12,1:40", "width128:bf16:12:40", "width384:f32:16,1:3",
         "width384:bf16:16,1:4", "gpt2:f32:4:2", "gpt2:bf16:4:3"]


def result(command):
    """The JSON object that a program prints as its last line."""
    environment = {"GOMP_SPINCOUNT": "20000", **os.environ}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if run.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{run.stderr[-1000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def rounds_of(work, options):
    """For each micro-batch size, the rows of ours and of PyTorch's, a pair a round."""
    model, dtype, sizes, cycles = work.split(":")
    sizes = sizes.split(",")
    flags = ["--model", model, "--dtype", dtype, "--micro-batch", *sizes, "--cycles", cycles]
    torch = [options.python, Path(__file__).with_name("train_torch.py"), *flags,
             "--threads", str(options.threads)]
    pairs = {int(size): [] for size in sizes}
    for number in range(options.rounds):
        print(f"{work}: round {number + 1} of {options.rounds}", file=sys.stderr)
        ours, theirs = result([options.bin / "bench_train", *flags]), result(torch)
        for row, other in zip(ours["rows"], theirs["rows"]):
            pairs[row["micro_batch"]].append((row, other))
    return model, dtype, pairs, theirs["torch"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("bin", type=Path, help="folder of the built programs")
    parser.add_argument("--python", default=sys.executable, help="one that has torch")
    parser.add_argument("--work", nargs="+", default=WORKS, metavar="MODEL:DTYPE:SIZES:CYCLES")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    for work in options.work:
        model, dtype, pairs, version = rounds_of(work, options)
        for size, rows in pairs.items():
            ratios = [ours["tokens_per_second"] / torch["tokens_per_second"] for ours, torch in rows]
            ours = {key: statistics.median(row[key] for row, _ in rows)
                    for key in ("tokens_per_second", "over_floor", "of_best_gemm", "over_first",
                                "gflops", "best_gemm_gflops")}
            print(json.dumps({"model": model, "dtype": dtype, "micro_batch": size,
                              "torch": version, "over_torch": statistics.median(ratios),
                              "over_torch_by_round": [round(one, 3) for one in ratios], **ours}),
                  flush=True)


main()
