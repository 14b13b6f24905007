#!/usr/bin/env python3
"""What the example programs say to flags that cannot be, to files that cannot be used, and to a
training that diverges.

    check_bad_input.py BIN_DIR
"""
import math
import re
import shutil
import subprocess
import unittest

from program_case import BIN, TINY, ProgramCase, run


class BadInput(ProgramCase):
    def test_what_no_cycle_can_do_is_wrong_usage_in_the_words_of_the_flags(self):
        consume = ["--consume", "backward", "--clip", 0, "--keep-non-finite"]
        into_moments = ["--consume", "adam_a", "--clip", 0, "--keep-non-finite"]
        for word, flags in (
                ("--keep-non-finite", ["--consume", "backward", "--clip", 0]),
                ("--keep-non-finite", ["--consume", "adam_a", "--clip", 0]),
                ("--clip 0", ["--consume", "backward", "--keep-non-finite"]),
                ("clip", ["--consume", "adam_a", "--keep-non-finite"]),
                ("leave out --filter", [*consume, "--filter", "clip:1"]),
                ("--dtype bf16", [*consume, "--dtype", "f16"]),
                ("--consume close", [*consume, "--accumulate", "fixed_point"]),
                ("--accumulate tree or fixed_point", ["--reproducible", "ranks", "--accumulate", "bf16"]),
                ("--accumulate f32 or kahan", ["--accumulate", "tree", "--filter", "agreement:0.9"]),
                ("--reproducible split", ["--reproducible", "ranks", "--filter", "agreement:0.9"]),
                ("--accumulate f32 or kahan", ["--accumulate", "tree", "--batch-by", "noise"]),
                ("no_such*", ["--accumulate", "kahan:no_such*"]),
                ("transformer.ln_f.bias", ["--accumulate", "kahan:*.norm.*"]),
                ("--verify", ["--consume", "adam_a", "--clip", 0, "--keep-non-finite", "--verify", 2]),
                ("--clip 0", ["--consume", "adam_a"]),
                ("--checkpoint: expected a name", ["--checkpoint", ""]),
                ("--log: expected a name", ["--log", ""]),
                ("--checkpoint-interval: expected steps", ["--checkpoint", "c", "--checkpoint-interval", ""]),
                ("--granule: expected at least 1, got 0", ["--reproducible", "split", "--granule", 0]),
                ("--consume close", [*into_moments, "--loss-scale", 128]),
                ("--log", ["--records"]),
                ("--reproducible split", [*into_moments, "--reproducible", "ranks"]),
                ("got invariant", ["--consume", "invariant", *into_moments[2:], "--reproducible", "ranks"]),
                ("--consume close", [*into_moments, "--filter", "drop-non-finite"]),
                ("--keep-non-finite", ["--consume", "adam_a", "--clip", 0, "--dtype", "f16"]),
                ("--dtype bf16", [*into_moments, "--dtype", "f16"]),
                ("leave out --keep-non-finite", ["--loss-scale", 1024, "--keep-non-finite"]),
                ("leave out --batch-by noise", [*consume, "--batch-by", "noise"]),
                ("--consume close", [*into_moments, "--batch-by", "noise"]),
                ("--accumulate f32", ["--accumulate", "median_of_means", "--filter", "drop-non-finite"]),
                ("--accumulate f32", ["--accumulate", "sign_vote", "--loss-scale", 8]),
                ("127 micro-batches", ["--accumulate", "sign_vote", "--batch-schedule", "0:4,9:256"]),
                ("--accumulate f32", ["--accumulate", "sign_vote", "--filter", "drop-non-finite"])):
            # Said before the text is looked for.
            done = self.refused(2, word, "train_gpt", "--data", self.folder / "none", *TINY, *flags)
            with self.subTest(flags=flags):
                for term in ("skip_non_finite", "reproducible =", "clip = 0", "noise_scale", "moments:",
                             "the filter clip", "sums of f32"):
                    self.assertNotIn(term, done.stderr)

    def test_an_unknown_word_is_named_beside_those_that_are_known(self):
        for flag, *known in (
                ("--filter", "clip:LIMIT", "agreement:TAU", "drop-non-finite", "observe"),
                ("--consume", "close", "backward", "adam_a", "invariant"),
                ("--reproducible", "run", "split", "ranks"), ("--batch-by", "noise", "plateau"),
                ("--accumulate", "f32", "kahan", "tree", "fixed_point", "sign_vote"),
                ("--recompute", "none", "block", "sqrt"), ("--tokenizer", "char", "byte")):
            done = self.refused(2, flag, "train_gpt", "--data", self.folder / "none", flag, "gzip")
            for word in (*known, "gzip"):
                self.assertIn(word, done.stderr)
        for word in ("clip", "clip:", "clip:one", "clip:0", "agreement:3", "observe:1"):
            self.refused(2, "--filter", "train_gpt", "--data", self.folder / "none", "--filter", word)

    def test_sizes_beyond_any_memory_are_refused_by_the_limit(self):
        # A product of two such sizes would overflow, and a billion layers take long to make.
        for name, value in (("width", 10**8), ("width", 2**62), ("layers", 10**9), ("context", 10**12),
                            ("heads", 2**62)):
            for program in ("train_gpt", "one_cycle"):
                done = self.refused(2, f"expected {name} from 1 to ", program, "--data", self.text,
                                    f"--{name}", value)
                self.assertIn(f"got {value}", done.stderr)

        self.refused(2, "at most 33554432 sequences of 8 tokens", "train_gpt", "--data", self.text,
                     *TINY, "--effective-batch", 2**25 + 1)
        for flag, *more in (("--batch-schedule", f"0:5,1:{2**40}"),
                            ("--max-batch", 2**40, "--batch-by", "plateau"),
                            ("--effective-batch", 2**61, "--batch-by", "plateau")):
            self.refused(2, f"{flag}: expected at most 33554432 sequences", "train_gpt", "--data",
                         self.text, *TINY, flag, *more)

    def test_impossible_flags_are_wrong_usage(self):
        for flags in (["--heads", 3], ["--layers", 0], ["--width", 0], ["--context", 0],
                      ["--micro-batch", 0], ["--micro-batch", 6], ["--effective-batch", 0],
                      ["--steps", 0], ["--steps", "ten"], ["--steps", 1.5], ["--lr", "nan"],
                      ["--lr", "fast"], ["--lr", -1], ["--min-lr", 1], ["--warmup", 99, "--steps", 9],
                      ["--beta2", 1], ["--clip", -1], ["--dropout", 1], ["--dropout", "nan"],
                      ["--threads", 0], ["--threads", -1], ["--eval-interval", 0],
                      ["--eval-batches", -1], ["--accumulate", "f8"], ["--accumulate", ""],
                      ["--tokenizer", "words"], ["--device", "tpu"], ["--dtype", "f8"],
                      ["--recompute", "all"], ["--resume"], ["--checkpoint-interval", 5],
                      ["--checkpoint-interval", 0, "--checkpoint", self.folder / "c"],
                      ["--sample", -1], ["--verify", -1], ["--data", ""],
                      ["--verify", 2, "--dry-run"], ["--granule", 4],
                      ["--loss-scale", "nan"], ["--loss-scale", "inf"], ["--loss-scale", 0],
                      ["--loss-scale", -1], ["--loss-scale", 1e300], ["--no-such-flag"], ["stray"],
                      ["--width", 6, "--positions", "rope"]):
            done = self.refused(2, "; try ", "train_gpt", "--data", self.text, *TINY, *flags)
            self.assertIn(str(flags[0]).strip("-"), done.stderr)
        self.refused(2, "--data", "train_gpt")
        self.refused(2, "--effective-batch", "one_cycle", "--data", self.text, "--effective-batch", 9)
        self.refused(2, "heads", "one_cycle", "--data", self.text, "--heads", 3)
        self.refused(2, "--data", "one_cycle")
        self.refused(2, "not expected", "by_hand", "1")
        for flags in (["--k-max", 0], ["--elements", 100], ["--elements", 131072], ["--seed", "x"],
                      ["--training-steps", -1]):
            self.refused(2, str(flags[0]), "accumulator_error", *flags)
        self.refused(2, "--weights", "adam_moments", "--weights", 3)
        self.refused(2, "FILE", "readme")
        self.refused(2, "--device", "readme", self.text, "--device", "tpu")
        for name in ("batch_size", "own_accumulator", "precision", "ragged_batches", "stop_and_resume"):
            self.refused(2, "not expected", name, "1")
            self.refused(2, "--device", name, "--device", "tpu")

    def test_products_in_tf32_are_a_gpus(self):
        self.refused(2, "--device cuda", "train_gpt", "--data", self.text, *TINY, "--device", "cpu",
                     "--f32-products", "tf32")

    def test_nothing_that_is_read_or_was_logged_is_written_over(self):
        text, log = self.text.read_bytes(), self.folder / "log"
        link = self.folder / "link"
        link.symlink_to(self.text)
        for path in (self.text, link, self.folder / "." / "text"):
            self.refused(2, "--data", "train_gpt", "--data", self.text, *TINY, "--steps", 1, "--log", path)
            self.refused(2, "--data", "one_cycle", "--data", self.text, "--log", path)
            for flag in ("--log", "--csv", "--svg"):
                self.refused(2, "--data", "accumulator_error", "--data", self.text, flag, path)
        new = self.folder / "new"
        self.refused(2, "--csv", "accumulator_error", "--csv", new, "--svg", self.folder / "." / "new")
        self.assertEqual((self.text.read_bytes(), new.exists()), (text, False))

        folder = self.folder / "checkpoint"
        flags = ["--steps", 2, "--checkpoint", folder]
        self.train(*flags, "--log", log)
        logged, saved = log.read_bytes(), folder / "step-2.safetensors"
        before = saved.read_bytes()
        self.refused(2, "checkpoint", "train_gpt", "--data", self.text, *TINY, *flags, "--resume",
                     "--log", saved)
        self.refused(2, "not empty", "train_gpt", "--data", self.text, *TINY, *flags, "--resume",
                     "--verify", 2, "--log", log)
        self.refused(2, "not empty", "train_gpt", "--data", self.text, *TINY, "--find-lr", "--log", log)
        self.assertEqual((log.read_bytes(), saved.read_bytes()), (logged, before))
        log.write_bytes(b"")
        self.train("--verify", 2, "--log", log)
        self.assertGreater(len(log.read_text().splitlines()), 2)

    def test_unusable_files_are_errors_that_name_them(self):
        empty, short = self.folder / "empty", self.folder / "short"
        empty.write_bytes(b"")
        short.write_text("To be, or not")
        latin = self.folder / "latin"
        latin.write_bytes(b"caf\xe9 " * 200)
        for path in (self.folder / "missing", empty, self.folder):
            for program in ("train_gpt", "one_cycle"):
                self.refused(1, str(path), program, "--data", path)
            self.refused(1, str(path), "readme", path)
        self.refused(1, "text", "train_gpt", "--data", short, *TINY)
        self.refused(1, "context", "one_cycle", "--data", short)
        self.refused(1, "UTF-8", "train_gpt", "--data", latin, *TINY)
        nowhere = self.folder / "no" / "log"
        self.refused(1, str(nowhere), "train_gpt", "--data", self.text, *TINY, "--log", nowhere)
        self.refused(1, str(nowhere), "one_cycle", "--data", self.text, "--log", nowhere)
        self.refused(1, "missing", "accumulator_error", "--data", self.folder / "missing")
        for flag in ("--log", "--csv", "--svg"):
            self.refused(1, str(nowhere), "accumulator_error", "--data", self.text, flag, nowhere)

    def test_a_result_that_cannot_be_printed_is_an_error(self):
        data, log = ["--data", self.text], ["--log", "/dev/full"]
        small = ["--k-max", 2, "--elements", 512, "--training-steps", 1]
        # Where a buffer was flushed before the end, the system's words for the error are lost.
        full_disk, some = "No space left", ""
        for program, flags, got in (("train_gpt", [*data, *TINY, "--steps", 1], full_disk),
                                    ("train_gpt", ["--help"], some), ("one_cycle", data, full_disk),
                                    ("by_hand", [], full_disk), ("readme", [self.text], some),
                                    ("accumulator_error", [*data, *small], full_disk),
                                    ("adam_moments", ["--help"], some)):
            with self.subTest(program=program, flags=flags), open("/dev/full", "w") as full:
                done = subprocess.run([BIN / program, *map(str, flags)], stdout=full, cwd=self.folder,
                                      stderr=subprocess.PIPE, text=True, timeout=300, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"expected to print to standard output, got: {got}", done.stderr)
        for program, flags in (("one_cycle", data), ("accumulator_error", [*data, *small])):
            with self.subTest(program=program):
                done = run(program, *flags, *log)
                self.assertEqual(done.returncode, 1)
                self.assertIn("[log] expected to write '/dev/full', got: No space left", done.stderr)

    def test_with_a_filter_that_drops_ten_lost_cycles_in_a_row_stop_the_run(self):
        flags = ["--data", self.text, *TINY, "--lr", 1e30, "--min-lr", 1e30, "--clip", 0, "--warmup", 0,
                 "--filter", "drop-non-finite", "--steps", 50]
        done = self.refused(1, "as in the 9 cycles before", "train_gpt", *flags)
        self.assertNotIn("--filter", done.stderr)
        last = int(re.search(r"in step (\d+),", done.stderr)[1])  # a step that would be the next
        ended = run("train_gpt", *flags, "--steps", last + 4)
        self.assertEqual(ended.returncode, 1)
        self.assertIn(f"finite validation loss after step {last - 1}", ended.stderr)

    def test_a_loss_that_is_not_finite_stops_the_run_and_spares_what_was_saved(self):
        folder = self.folder / "checkpoint"
        flags = ["--data", self.text, *TINY, "--lr", 1e30, "--min-lr", 1e30, "--clip", 0, "--warmup", 0]
        saving = [*flags, "--checkpoint", folder, "--checkpoint-interval", 1]
        done = self.refused(1, "finite", "train_gpt", *saving, "--steps", 50)
        for word in ("--lr", "--filter drop-non-finite"):
            self.assertIn(word, done.stderr)
        last = int(re.search(r"in step (\d+),", done.stderr)[1]) - 1  # the newest that is saved
        names = [path.name for path in folder.iterdir()]
        self.assertIn(f"step-{last}.safetensors", names)
        for name in names:  # and no half of another
            self.assertRegex(name, r"^step-\d+\.safetensors$")
        before = {name: (folder / name).read_bytes() for name in names}
        again = run("train_gpt", *saving, "--steps", 50, "--resume")
        self.assertEqual((again.returncode, again.stderr), (1, done.stderr))
        self.assertEqual(again.stdout, f"resumed at step {last}, micro-batch 0\n")
        self.assertEqual({path.name: path.read_bytes() for path in folder.iterdir()}, before)

    def test_weights_without_a_loss_are_no_success_and_are_not_saved(self):
        flags = ["--data", self.text, *TINY, "--lr", 1e30, "--min-lr", 1e30, "--clip", 0, "--warmup", 0]
        folder = self.folder / "checkpoint"
        good = self.result("train_gpt", "--data", self.text, *TINY, "--steps", 1, "--checkpoint", folder)
        self.assertTrue(math.isfinite(good["val_loss"]))
        shutil.rmtree(folder)
        for more in ([], ["--filter", "drop-non-finite"]):
            done = run("train_gpt", *flags, *more, "--steps", 1, "--checkpoint", folder)
            self.assertEqual((done.returncode, len(done.stderr.splitlines())), (1, 1), done.stderr)
            self.assertIn("expected a finite validation loss after step 1, got ", done.stderr)
            self.assertIn("smaller --lr", done.stderr)
            self.assertEqual(list(folder.iterdir()), [])
        # Whoever asks for such steps gets them.
        self.assertIsNone(self.result("train_gpt", *flags, "--keep-non-finite", "--steps", 2)["val_loss"])

    def test_what_is_no_number_is_said_in_those_words(self):
        for flags, words in ((["--steps", "010"], "--steps: expected a whole number, as 10, got 010"),
                             (["--steps", "0x1g"], "got 0x1g"), (["--steps", ""], "whole number"),
                             (["--micro-batch", "two"], "--micro-batch: expected a whole number, as 10, got two"),
                             (["--warmup", "-01"], "got -01"), (["--seed", "1_000"], "got 1_000"),
                             (["--steps", 2**63], f"--steps: expected a number of 64 bits, got {2**63}"),
                             (["--lr", "fast"], "--lr: expected a finite number, got fast"),
                             (["--lr", "1e400"], "--lr: expected a finite number, got 1e400"),
                             (["--clip", "nan"], "--clip: expected a finite number, got nan"),
                             (["--min-lr", ""], "--min-lr: expected a finite number, got "),
                             (["--lr", 1e300], "--lr: expected a number that f32 holds"),
                             (["--effective-batch", 2**62], "--effective-batch: expected at most"),
                             (["--device", "gpu"], "--device: expected one of cpu,reference,cuda; got gpu")):
            self.refused(2, words, "train_gpt", "--data", self.text, *TINY, *flags)
        self.assertGreater(self.train("--reproducible", "split", "--granule", "0x2", "--steps", 1)["steps"], 0)
        self.refused(2, "got 010", "one_cycle", "--data", self.text, "--effective-batch", "010")

    def test_a_log_that_cannot_be_written_is_said_in_the_systems_words(self):
        for program, sizes in (("train_gpt", TINY), ("one_cycle", [])):
            self.refused(1, "Is a directory", program, "--data", self.text, *sizes, "--log", self.folder)


if __name__ == "__main__":
    unittest.main()
