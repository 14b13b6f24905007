#!/usr/bin/env python3
"""Trains with train_gpt: what it reports, what it validates on, and that every flag does something.

    check_training.py BIN_DIR
"""
import json
import os
import pty
import random
import re
import statistics
import subprocess
import threading
import unittest

from cpu import products_ignore_threads
from program_case import BIN, TINY, ProgramCase, run


TAGS = {"parameters", "copies", "gradients", "optimizer", "activations", "workspace"}
WINDOW = 8  # tokens of a sequence in TINY, and of a block here


class Training(ProgramCase):
    def test_a_run_reports_logs_and_learns(self):
        log = self.folder / "log"
        result = self.train("--steps", 30, "--eval-interval", 10, "--log", log, "--lr", 1e-2)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines], list(range(1, 31)))
        self.assertEqual([line["step"] for line in lines if "val_loss" in line], [10, 20, 30])
        self.assertEqual(result["val_loss"], lines[-1]["val_loss"])
        self.assertEqual(result["train_loss"], lines[-1]["loss"])
        self.assertLess(result["val_loss"], lines[0]["loss"])
        self.assertLessEqual(result["best_val_loss"], result["val_loss"])
        self.assertEqual(set(result["peak_bytes"]), TAGS)
        self.assertEqual(result["steps"], 30)
        self.assertEqual(len(result["weights_sha256"]), 64)
        self.assertGreater(result["tokens_per_second"], 0)

    def test_a_terminal_sees_progress_within_a_step_and_in_validation(self):
        self.text.write_text(self.text.read_text() * 600)
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        drawn = []

        def read():  # until the other end is closed, which reads as an error
            try:
                while part := os.read(ours, 1 << 16):
                    drawn.append(part)
            except OSError:
                pass
        reader = threading.Thread(target=read)
        reader.start()
        done = subprocess.run([BIN / "train_gpt", "--data", self.text, *TINY, "--micro-batch", "1",
                               "--effective-batch", "20000", "--steps", "1", "--threads", "1"], text=True,
                              stdout=subprocess.PIPE, stderr=theirs, timeout=300, check=False)
        os.close(theirs)
        reader.join()
        self.assertEqual(done.returncode, 0)
        lines = b"".join(drawn).decode().split("\r")
        bars = {line.split("]")[0] for line in lines if "step 1/1" in line and "validation" not in line}
        # Ten a second, of a step of 20,000 micro-batches.
        self.assertGreater(len(bars), 2, lines)
        within = re.compile(r"\[#*\.+\] step 1/1  \d+:\d\d left$")
        validating = re.compile(r"\[#+\] step 1/1  loss (\S+)  (\d+) tokens/s  validation \d+ %  0:00 left$")
        self.assertGreater(sum(bool(within.search(line)) for line in lines), 2, lines)
        found = [found for found in map(validating.search, lines) if found]
        self.assertTrue(found, lines)
        result = json.loads(done.stdout.splitlines()[-1])
        self.assertAlmostEqual(float(found[0][1]), result["train_loss"], places=4)
        self.assertEqual(int(found[0][2]), round(result["tokens_per_second"]))

    def sample(self, *how):
        """The text that a short run writes, which comes before the result, and the weights' hash."""
        done = run("train_gpt", "--data", self.text, *TINY, "--steps", 2, "--sample", 50, *how)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        validation, _, rest = done.stdout.partition("\n\n")
        self.assertIn("validation loss", validation)
        self.assertEqual(rest[50:52], "\n\n")  # a token is a letter
        return rest[:50], json.loads(rest[52:])["weights_sha256"]

    def untrained(self, text, *flags):
        """The validation loss of the first weights, which depend on the seed and the alphabet."""
        self.text.write_text(text)
        return self.train("--steps", 1, "--lr", 0, *flags)["val_loss"]

    def text_and_blocks(self):
        """A text whose last tenth, six blocks and four letters, is unlike the rest and itself."""
        head = ("to be or not to be, that is the question; " * 12)[:468]
        letters = random.Random(1)
        blocks = ["t" + "".join(letters.choices(sorted(set(head)), k=WINDOW - 1)) for _ in range(6)]
        return head, blocks

    def test_the_last_tenth_is_validated_on_and_nothing_else(self):
        head, blocks = self.text_and_blocks()
        text = head + "".join(blocks) + "tobe"
        plain = self.untrained(text)
        end = 468 + 6 * WINDOW  # the last window's last target; no window is left for what follows
        for place, counts in ((0, False), (100, False), (467, False), (468, True), (490, True),
                              (end, True), (end + 1, False), (519, False)):
            self.assertNotEqual(text[place], "q")
            changed = self.untrained(text[:place] + "q" + text[place + 1:])
            self.assertEqual(changed != plain, counts, place)

    def test_validation_takes_each_window_once_or_as_many_batches_as_told(self):
        head, blocks = self.text_and_blocks()  # all begin with t, so each ends another in the same way
        plain = self.untrained(head + "".join(blocks) + "tobe")
        swapped = self.untrained(head + "".join(reversed(blocks)) + "tobe")
        self.assertAlmostEqual(swapped, plain, delta=1e-6)
        shifted = self.untrained(head + "e" + "".join(blocks) + "tob")
        self.assertGreater(abs(shifted - plain), 1e-4)  # or the check above could not fail
        # The last of six windows is not among the first five.
        text = head + "".join(blocks) + "tobe"
        other = head + "".join(blocks[:5]) + "t" + blocks[5][:0:-1] + "tobe"
        for flags, counts in (([], True), (["--eval-batches", 2], True), (["--eval-batches", 1], False)):
            self.assertEqual(self.untrained(text, *flags) != self.untrained(other, *flags), counts, flags)
        self.assertNotEqual(self.untrained(text, "--eval-batches", 1), plain)

    def test_best_and_median_are_those_of_the_log(self):
        log = self.folder / "log"
        self.text.write_text("to be or not to be, that is the question; " * 40 +
                             "question ask who are you. " * 6)
        result = self.train("--steps", 60, "--eval-interval", 5, "--lr", 3e-3, "--log", log)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        losses = [line["val_loss"] for line in lines if "val_loss" in line]
        self.assertEqual(result["best_val_loss"], min(losses))
        # It learns the alphabet, and then what the last tenth is not: neither end is the best.
        self.assertLess(min(losses), min(losses[0], losses[-1]) - 0.01)
        self.assertEqual(result["tokens_per_second"],
                         statistics.median_high(line["tokens_per_second"] for line in lines))

    def test_every_flag_that_decides_the_weights_does(self):
        flags = [["--seed", 2], ["--effective-batch", 6], ["--lr", 2e-3], ["--min-lr", 0], ["--warmup", 0],
                 ["--weight-decay", 0.2], ["--weight-decay", 0], ["--beta1", 0.8], ["--beta1", 0],
                 ["--beta2", 0.9], ["--clip", 0.1], ["--clip", 0], ["--dropout", 0.1], ["--heads", 1],
                 ["--context", 7], ["--positions", "rope"], ["--norm", "rms"], ["--untied"],
                 ["--activation", "swiglu"], ["--dtype", "bf16"], ["--accumulate", "bf16"],
                 ["--filter", "clip:0.1"], ["--consume", "adam_a", "--clip", 0, "--keep-non-finite"],
                 ["--consume", "invariant", "--clip", 0, "--keep-non-finite"]]
        plain = ["--steps", 6, "--lr", 3e-3]
        hashes = {}
        for choice in ([], *flags):
            same_as = hashes.setdefault(self.train(*plain, *choice)["weights_sha256"], choice)
            self.assertEqual(same_as, choice)
        # Two runs of one seed have the same, so hashes differ for the flags' sake alone.
        self.assertEqual(hashes[self.train(*plain)["weights_sha256"]], [])

    @unittest.skipUnless(products_ignore_threads(), "without AVX-512 oneDNN adds in an order that depends "
                                                    "on the number of threads: chapter 4")
    def test_the_number_of_threads_decides_no_bit(self):
        # Wide enough that a thread takes its own part of every product.
        wide = ["--heads", 2, "--width", 64, "--context", 32, "--micro-batch", 4, "--effective-batch", 8]
        self.text.write_text(self.text.read_text() * 4)
        hashes = {self.train(*wide, "--steps", 2, "--threads", threads)["weights_sha256"]
                  for threads in (1, 2, 3)}
        self.assertEqual(len(hashes), 1)
        self.assertNotIn(self.train(*wide, "--steps", 2, "--micro-batch", 3)["weights_sha256"], hashes)

    def test_the_temperature_and_top_k_decide_how_far_a_sample_strays(self):
        greedy = self.sample("--top-k", 1)
        for how in (["--temperature", 0], ["--temperature", 1e-6], ["--temperature", 2, "--top-k", 1]):
            self.assertEqual(self.sample(*how), greedy, how)
        others = [self.sample(*how) for how in ([], ["--temperature", 2], ["--top-k", 2])]
        self.assertEqual(len({text for text, _ in [greedy, *others]}), 4, others)
        self.assertEqual({weights for _, weights in others}, {greedy[1]})


if __name__ == "__main__":
    unittest.main()
