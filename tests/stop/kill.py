#!/usr/bin/env python3
"""Kills train_gpt with SIGKILL at random moments, resumes it each time, and compares weights and log
with those of an uninterrupted run. Goes on until there were KILLS of them, of which enough hit what
is to be tested: a write, or a run that had itself been resumed.

    kill.py TRAIN_GPT KILLS [FLAG…]
"""
import json
import random
import re
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
            ("--filter drop-non-finite", "1m"), ("--filter agreement:1 --accumulate kahan", "2m"),
            (f"--consume invariant {NO_CLIP} --dtype bf16", "1m"), ("--dtype f16 --ema 0.9", "1m"),
            ("--batch-by noise --filter clip:0.5 --ema 0.9 --lr-rule sqrt", "2m"),
            ("--batch-schedule 0:5,20:9 --beta2-half-life 900 --accumulate median_of_means", "1m"),
            ("--loss-scale 1e36", "1m")]  # its first cycles are skipped
# At a random moment of a run, a tenth of it starting, half are past a step and a third within a write.
# How many really are hangs on the machine: so more kills follow, not a failure, where they were too few,
# up to as many as no machine needs that resumes at all and writes for a fiftieth of its time.
RESUMED, HALF_WRITTEN, MOST = KILLS // 5, KILLS // 20, 5 * KILLS


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


class Tally:
    """What the kills have hit so far."""

    def __init__(self):
        self.kills = self.resumed = self.half_written = 0

    def enough(self):
        if self.kills >= MOST:
            fail(f"of {self.kills} kills {self.half_written} hit a write and {self.resumed} were followed "
                 f"by a resume that got on from past the first step, expected {HALF_WRITTEN} and {RESUMED}")
        return (self.kills >= KILLS and self.resumed >= RESUMED and
                self.half_written >= HALF_WRITTEN)


def newest(folder):
    """Step and micro-batch of the newest checkpoint; None: there is none."""
    found = [re.match(r"step-(\d+)(?:-micro-(\d+))?\.safetensors$", path.name)
             for path in folder.glob("*")]
    return max(((int(one[1]), int(one[2] or 0)) for one in found if one), default=None)


class Chain:
    """One run of `seconds`, killed again and again until it is done."""

    def __init__(self, folder, flags, seconds, moments, tally):
        self.folder, self.flags, self.seconds = folder, flags, seconds
        self.moments, self.tally = moments, tally

    def run(self):
        checkpoint = self.folder / "checkpoint"
        while True:
            saved = self.saved = newest(checkpoint)
            resume = ["--resume"] if saved else []
            process = subprocess.Popen([TRAIN, *self.flags, "--checkpoint", checkpoint, *resume],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            try:
                wait = None if self.tally.enough() else self.moments.uniform(0, self.seconds)
                result = finished(process, *process.communicate(timeout=wait))
                self.tally.resumed += bool(saved and saved[0])
                return result
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                if process.returncode == -9:
                    self.tally.kills += 1
                    self.tally.resumed += bool(saved and saved[0]) and newest(checkpoint) != saved
                    self.tally.half_written += any(checkpoint.glob("*.temporary-*"))
                    if err:
                        fail("killed after words on stderr:", err)
                else:  # it ended at the same moment
                    return finished(process, out, err)


def main():
    moments = random.Random(5)
    began = time.monotonic()
    tally, chains = Tally(), 0
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "text").write_text("To be, or not to be: that is the question.\n" * 60)
        whole = {}
        while not tally.enough():
            variant, interval = VARIANTS[chains % len(VARIANTS)]
            folder = root / str(chains)
            folder.mkdir()
            flags = ["--data", root / "text", *TINY, *variant.split(), *EXTRA]
            if variant not in whole:
                log, saved = root / f"whole-{len(whole)}", root / f"saved-{len(whole)}"
                start = time.monotonic()  # with its checkpoints, as the runs that are killed
                done = subprocess.run([TRAIN, *flags, "--log", log, "--checkpoint", saved,
                                       "--checkpoint-interval", interval], capture_output=True,
                                      text=True, check=False)
                seconds = time.monotonic() - start
                whole[variant] = (finished(done, done.stdout, done.stderr), log_of(log), seconds)
            log = folder / "log"
            expected, lines, seconds = whole[variant]
            chain = Chain(folder, [*flags, "--log", log, "--checkpoint-interval", interval], seconds,
                          moments, tally)
            result = chain.run()
            for key in ("weights_sha256", "val_loss", "best_val_loss", "steps"):
                if result[key] != expected[key]:
                    fail(variant, interval, key, "expected", expected[key], "got", result[key])
            if log_of(log) != lines:
                fail(variant, interval, "the log differs:", log.read_text())
            left = sorted(path.name for path in (folder / "checkpoint").iterdir())
            # Killed between the last file's rename and the removal of the oldest, a run has nothing
            # left to save, and so nothing more to remove.
            most = 3 if chain.saved == (result["steps"], 0) else 2
            if any(".temporary-" in name for name in left) or len(left) > most:
                fail("left in the folder:", left)
            chains += 1
        if len({result["weights_sha256"] for result, _, _ in whole.values()}) == 1 < len(whole):
            fail("all variants gave the same weights: this could not fail")
    print(f"{tally.kills} kills in {chains} runs, {tally.half_written} of them in the middle of a write; "
          f"{tally.resumed} resumes that got on from past the first step; {time.monotonic() - began:.0f} s")


main()
