#!/usr/bin/env python3
"""Kills train_gpt with SIGKILL at random moments, resumes it each time, and compares weights and log
with those of an uninterrupted run.

    kill.py TRAIN_GPT KILLS [FLAG…]
"""
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN, KILLS, EXTRA = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
TINY = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "8", "--micro-batch", "2",
        "--effective-batch", "5", "--dropout", "0.1", "--steps", "60", "--eval-interval", "20",
        "--eval-batches", "2", "--threads", "1"]
NO_CLIP = "--clip 0 --keep-non-finite"
VARIANTS = [("--accumulate f32", "1m"), ("--accumulate kahan", "2m"), ("--accumulate bf16", "1"),
            ("--accumulate kahan:*.bias,tree:*.weight", "1m"), ("--accumulate fixed_point", "3m"),
            (f"--consume backward {NO_CLIP}", "1m"), (f"--consume adam_a {NO_CLIP}", "1m"),
            ("--reproducible split --accumulate bf16_stochastic", "1m"), ("--reproducible ranks", "1m"),
            ("--filter drop-non-finite", "1m"),
            ("--loss-scale 1e36", "1m")]  # its first cycles are skipped
WINDOW = 0.25  # seconds from start to kill, at most


def fail(*words):
    sys.exit(" ".join(map(str, words)))


def log_of(path):
    """Step and loss of each line: the rest are times."""
    return [(line["step"], line["loss"], line.get("val_loss"))
            for line in map(json.loads, path.read_text().splitlines())]


def finished(process, out, err):
    """The last line of a run that ended by itself, which must have had nothing to complain about."""
    if process.returncode != 0 or err:
        fail("exit status", process.returncode, "of", process.args, err)
    return json.loads(out.splitlines()[-1])


class Chain:
    """One run, killed again and again until it is done."""

    def __init__(self, folder, flags, moments):
        self.folder, self.flags, self.moments = folder, flags, moments
        self.kills = self.half_written = 0

    def run(self, enough):
        checkpoint = self.folder / "checkpoint"
        while True:
            files = [path.name for path in checkpoint.glob("*")]
            self.half_written += any(".temporary-" in name for name in files)
            resume = ["--resume"] if any(name.endswith(".safetensors") for name in files) else []
            process = subprocess.Popen([TRAIN, *self.flags, "--checkpoint", checkpoint, *resume],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                wait = None if self.kills >= enough else self.moments.uniform(0, WINDOW)
                return finished(process, *process.communicate(timeout=wait))
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                if process.returncode == -9:
                    self.kills += 1
                    if err:
                        fail("killed after words on stderr:", err)
                else:  # it ended at the same moment
                    return finished(process, out, err)


def main():
    moments = random.Random(5)
    began = time.monotonic()
    kills = chains = half_written = 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "text").write_text("To be, or not to be: that is the question.\n" * 60)
        whole = {}
        while kills < KILLS:
            variant, interval = VARIANTS[chains % len(VARIANTS)]
            folder = root / str(chains)
            folder.mkdir()
            flags = ["--data", root / "text", *TINY, *variant.split(), *EXTRA]
            if variant not in whole:
                log = root / f"whole-{len(whole)}"
                done = subprocess.run([TRAIN, *flags, "--log", log], capture_output=True, text=True,
                                      check=False)
                whole[variant] = (finished(done, done.stdout, done.stderr), log_of(log))
            log = folder / "log"
            chain = Chain(folder, [*flags, "--log", log, "--checkpoint-interval", interval], moments)
            result = chain.run(KILLS - kills)
            expected, lines = whole[variant]
            for key in ("weights_sha256", "val_loss", "best_val_loss", "steps"):
                if result[key] != expected[key]:
                    fail(variant, interval, key, "expected", expected[key], "got", result[key])
            if log_of(log) != lines:
                fail(variant, interval, "the log differs:", log.read_text())
            left = sorted(path.name for path in (folder / "checkpoint").iterdir())
            if any(".temporary-" in name for name in left) or len(left) > 2:
                fail("left in the folder:", left)
            kills, chains = kills + chain.kills, chains + 1
            half_written += chain.half_written
        if len({result["weights_sha256"] for result, _ in whole.values()}) == 1 < len(whole):
            fail("all variants gave the same weights: this could not fail")
    print(f"{kills} kills in {chains} runs, {half_written} of them in the middle of a write; "
          f"{time.monotonic() - began:.0f} s")


main()
