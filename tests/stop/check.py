#!/usr/bin/env python3
"""Stops train_gpt by signals and by its disk, resumes it, and compares with an uninterrupted run.
Long: its tests share the ways to stop a run and to compare it, a class of 50 lines.

    check.py TRAIN_GPT
"""
import json
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from cpu import products_ignore_threads

TRAIN = sys.argv.pop(1)
TINY = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "8", "--dropout", "0.1"]
RAGGED = [*TINY, "--micro-batch", "2", "--effective-batch", "5"]


def catches(process, number):
    """Whether the process has a handler for the signal; None once it is gone."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return None
    masks = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(masks[0], 16) >> (number - 1) & 1) if masks else None


def wait_until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError("a minute has passed")


class Stop(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.checkpoint = self.folder / "checkpoint"
        self.text = self.folder / "text"
        self.text.write_text("To be, or not to be: that is the question.\n" * 60)

    def run_it(self, *flags, **options):
        return subprocess.run([TRAIN, "--data", self.text, *map(str, flags)], capture_output=True,
                              text=True, timeout=300, check=False, **options)

    def start(self, *flags):
        process = subprocess.Popen([TRAIN, "--data", self.text, *map(str, flags)], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def result(self, *flags, words="", status=0, **options):
        done = self.run_it(*flags, **options)
        self.assertEqual(done.returncode, status, done.stderr)
        if words:
            for word in [words] if isinstance(words, str) else words:
                self.assertIn(word, done.stderr)
        else:
            self.assertEqual(done.stderr, "")
        return json.loads(done.stdout.splitlines()[-1])

    def stopped(self, number, *flags):
        """Sends the signal once the log has a line; what the run then printed."""
        log = self.folder / "log"
        for _ in range(20):  # a busy machine may let the run end before the signal comes
            shutil.rmtree(self.checkpoint, ignore_errors=True)
            log.unlink(missing_ok=True)
            process = self.start(*flags, "--log", log, "--checkpoint", self.checkpoint)
            wait_until(lambda: process.poll() is not None or (
                catches(process, number) and log.exists() and log.read_text()))
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
            if process.returncode != 0:
                break
        self.assertEqual(process.returncode, 128 + number, err)
        result = json.loads(out.splitlines()[-1])
        name = signal.Signals(number).name
        self.assertEqual(result["stopped"], name)
        self.assertEqual(len(err.splitlines()), 1, err)
        for word in (name, result["checkpoint"], "--resume"):
            self.assertIn(word, err)
        self.assertTrue(Path(result["checkpoint"]).is_file())
        return result

    def losses(self, log):
        return [(line["step"], line["loss"], line.get("val_loss"))
                for line in map(json.loads, log.read_text().splitlines())]

    def test_a_signal_in_mid_cycle_saves_there_and_the_resumed_run_has_the_same_bits(self):
        # Sixty edges a step: the signal comes in mid-cycle, or nearly always does.
        flags = [*TINY, "--micro-batch", 2, "--effective-batch", 119, "--steps", 6,
                 "--accumulate", "kahan", "--eval-interval", 3]
        whole_log, log = self.folder / "whole", self.folder / "log"
        whole = self.result(*flags, "--log", whole_log)
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(signal=number):
                for _ in range(20):
                    stopped = self.stopped(number, *flags)
                    if stopped["micro_batches"]:
                        break
                self.assertGreater(stopped["micro_batches"], 0)
                self.assertIn(f"step-{stopped['steps']}-micro-{stopped['micro_batches']}.",
                              stopped["checkpoint"])
                resumed = self.result(*flags, "--log", log, "--checkpoint", self.checkpoint,
                                      "--resume")
                for key in ("weights_sha256", "val_loss", "best_val_loss", "train_loss", "steps"):
                    self.assertEqual(whole[key], resumed[key], key)
                self.assertEqual(self.losses(whole_log), self.losses(log))

    def test_a_signal_during_validation_loses_no_validation(self):
        self.text.write_text(self.text.read_text() * 10)
        flags = [*RAGGED, "--steps", 40, "--eval-interval", 1]
        whole_log, log = self.folder / "whole", self.folder / "log"
        whole = self.result(*flags, "--log", whole_log)
        for _ in range(20):  # a validation takes many times as long as a step, so one is soon hit
            stopped = self.stopped(signal.SIGTERM, *flags)
            if stopped["micro_batches"] == 0:
                break
        self.assertEqual(stopped["micro_batches"], 0)
        resumed = self.result(*flags, "--log", log, "--checkpoint", self.checkpoint, "--resume")
        self.assertEqual(whole["weights_sha256"], resumed["weights_sha256"])
        self.assertEqual(whole["best_val_loss"], resumed["best_val_loss"])
        self.assertEqual(self.losses(whole_log), self.losses(log))

    def test_a_signal_during_validation_keeps_a_loss_that_is_not_finite(self):
        self.text.write_text(self.text.read_text() * 10)
        flags = [*RAGGED, "--steps", 9, "--eval-interval", 1, "--lr", 1e30, "--clip", 0, "--warmup", 0,
                 "--keep-non-finite"]
        for _ in range(20):
            stopped = self.stopped(signal.SIGTERM, *flags)
            if stopped["micro_batches"] == 0 and stopped["steps"] > 1:
                break
        self.assertEqual(stopped["micro_batches"], 0)  # the loss of step 2, not a number, waits for it
        resumed = self.result(*flags, "--log", self.folder / "log", "--checkpoint", self.checkpoint,
                              "--resume")
        self.assertEqual(resumed["steps"], 9)
        self.assertIsNone(resumed["train_loss"])

    def test_a_signal_in_the_last_write_waits_for_it(self):
        # One step, and a file of 90 MB after it: the write is seen and takes far longer than seeing.
        flags = ["--layers", 8, "--heads", 2, "--width", 256, "--context", 8, "--micro-batch", 1,
                 "--effective-batch", 1, "--steps", 1, "--eval-batches", 1]
        for _ in range(20):
            shutil.rmtree(self.checkpoint, ignore_errors=True)
            process = self.start(*flags, "--checkpoint", self.checkpoint)
            wait_until(lambda: process.poll() is not None or any(self.checkpoint.glob("*")))
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=120)
            self.assertIn(process.returncode, (0, 128 + signal.SIGTERM), err)
            self.assertEqual([path.name for path in self.checkpoint.iterdir()], ["step-1.safetensors"])
            if process.returncode:
                break
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)
        self.assertEqual(json.loads(out.splitlines()[-1])["checkpoint"],
                         str(self.checkpoint / "step-1.safetensors"))
        self.assertEqual(self.result(*flags, "--checkpoint", self.checkpoint, "--resume")["steps"], 1)

    def test_a_second_signal_ends_the_program_at_once(self):
        # One micro-batch takes minutes: its edge is not the end.
        process = self.start("--width", 512, "--layers", 24, "--context", 64, "--micro-batch", 256,
                             "--effective-batch", 256, "--checkpoint", self.checkpoint)
        wait_until(lambda: catches(process, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: not catches(process, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_without_a_folder_a_signal_ends_the_program(self):
        process = self.start(*RAGGED, "--steps", 10**6, "--log", self.folder / "log")
        wait_until((self.folder / "log").exists)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGTERM)

    def test_a_full_disk_stops_nothing_and_is_said_again_at_the_end(self):
        flags = [*RAGGED, "--steps", 30, "--eval-interval", 10]
        whole = self.result(*flags)
        saved = self.result(*flags, "--steps", 10, "--checkpoint", self.checkpoint)
        self.assertEqual(saved["steps"], 10)
        before = {path.name: path.read_bytes() for path in self.checkpoint.iterdir()}

        def small_disk():  # a limit on a file's size stands for it
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        log = self.folder / "log"
        full = self.result(*flags, "--checkpoint", self.checkpoint, "--checkpoint-interval", "2m",
                           "--resume", "--log", log, preexec_fn=small_disk, status=1,
                           words=["File too large", "training goes on", "31 that were not"])
        self.assertEqual(full["steps"], 30)
        self.assertEqual({path.name: path.read_bytes() for path in self.checkpoint.iterdir()}, before)
        # Ten steps of a schedule for ten are not those of one for thirty: so from the beginning.
        shutil.rmtree(self.checkpoint)
        full = self.result(*flags, "--checkpoint", self.checkpoint, preexec_fn=small_disk, status=1,
                           words="3 that were not")
        self.assertEqual(full["weights_sha256"], whole["weights_sha256"])
        # A log that cannot grow is no reason to lose the training either.
        full = self.result(*flags, "--log", log, status=1, words=str(log), preexec_fn=lambda:
                           resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
        self.assertEqual(full["weights_sha256"], whole["weights_sha256"])

    def test_a_folder_that_cannot_be_made_stops_nothing(self):
        flags = [*RAGGED, "--steps", 4]
        whole = self.result(*flags)
        done = self.result(*flags, "--checkpoint", self.text / "below", status=1,
                           words=["Not a directory", "training goes on", "step-4.safetensors"])
        self.assertEqual(done["weights_sha256"], whole["weights_sha256"])
        process = self.start(*RAGGED, "--steps", 10**6, "--checkpoint", self.text / "below",
                             "--eval-batches", 1)
        wait_until(lambda: catches(process, signal.SIGINT))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, err)  # stopped, but not saved
        self.assertIsNone(json.loads(out.splitlines()[-1])["checkpoint"])

    def test_a_folder_without_permission_stops_nothing_and_keeps_what_it_has(self):
        as_nobody = {"executable": shutil.copy(TRAIN, self.folder)}
        if os.geteuid() == 0:  # who may write anywhere
            for path in (self.folder, self.text, as_nobody["executable"]):
                shutil.chown(path, "nobody")
            as_nobody["preexec_fn"] = lambda: os.setuid(pwd.getpwnam("nobody").pw_uid)
        flags = [*RAGGED, "--steps", 4, "--eval-interval", 2]
        whole = self.result(*flags, **as_nobody)
        words = ["Permission denied", "training goes on", "that were not"]
        for mode in (0o555, 0o000):
            self.checkpoint.mkdir(mode)
            done = self.result(*flags, "--checkpoint", self.checkpoint, status=1, words=words, **as_nobody)
            self.assertEqual(done["weights_sha256"], whole["weights_sha256"], mode)
            self.checkpoint.chmod(0o755)
            self.checkpoint.rmdir()  # nothing is in it
        # A checkpoint that may be read is gone on from.
        self.result(*flags, "--checkpoint", self.checkpoint, **as_nobody)
        (self.checkpoint / "step-4.safetensors").unlink()
        before = {path.name: path.read_bytes() for path in self.checkpoint.iterdir()}
        self.checkpoint.chmod(0o555)
        done = self.result(*flags, "--checkpoint", self.checkpoint, "--resume", status=1,
                           words=[*words[:2], "that was not"], **as_nobody)
        self.checkpoint.chmod(0o755)
        self.assertEqual(done["weights_sha256"], whole["weights_sha256"])
        self.assertEqual({path.name: path.read_bytes() for path in self.checkpoint.iterdir()}, before)

    def test_changed_flags_are_refused_by_name_all_at_once(self):
        flags = [*RAGGED, "--steps", 4, "--checkpoint", self.checkpoint, "--lr", "1e-3"]
        self.result(*flags)
        for changes, words in (
                (["--width", 32], ["--width 16 in the checkpoint, 32 now"]),
                (["--lr", 2e-3, "--seed", 7, "--untied"],
                 ["--lr 1e-3 in the checkpoint, 0.002 now", "--seed 1 in the checkpoint, 7 now",
                  "--untied unset in the checkpoint, on now"]),
                (["--accumulate", "kahan"], ["--accumulate f32 in the checkpoint, kahan now"]),
                (["--effective-batch", 6], ["--effective-batch 5"]), (["--dtype", "bf16"], ["--dtype f32"]),
                (["--min-lr", 0], ["--min-lr 0.0001 in the checkpoint, 0.0 now"]),
                (["--warmup", 3], ["--warmup 0 in"]),
                (["--tokenizer", "byte"], ["--tokenizer char"]), (["--norm", "rms"], ["--norm layer"])):
            done = self.run_it(*flags, "--resume", *changes)
            with self.subTest(changes=changes):
                self.assertEqual((done.returncode, done.stdout), (1, ""), done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
                for word in words:
                    self.assertIn(word, done.stderr)
                self.assertNotIn("--heads", done.stderr)
        self.text.write_text(self.text.read_text().replace("question", "answer"))
        self.assertIn("--data of ", self.run_it(*flags, "--resume").stderr)

    def test_whole_numbers_are_compared_to_the_last_digit(self):
        flags = [*RAGGED, "--steps", 2, "--checkpoint", self.checkpoint]
        self.result(*flags, "--seed", 2**53 + 1)
        done = self.run_it(*flags, "--resume", "--seed", 2**53)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(f"--seed {2**53 + 1} in the checkpoint, {2**53} now", done.stderr)
        self.result(*flags, "--resume", "--seed", hex(2**53 + 1))

    def test_a_default_that_is_written_out_is_no_other_flag(self):
        flags = [*RAGGED, "--steps", 6, "--checkpoint", self.checkpoint, "--dtype", "f16",
                 "--batch-by", "plateau"]
        saved = self.result(*flags)
        same = self.result(*flags, "--resume", "--min-lr", "3e-4", "--warmup", 1, "--max-batch", 40,
                           "--loss-scale", 65536)
        self.assertEqual(same["weights_sha256"], saved["weights_sha256"])

    def test_flags_that_may_change_change(self):
        flags = [*RAGGED, "--steps", 4, "--checkpoint", self.checkpoint, "--threads", 1,
                 "--filter", "clip:1.50"]
        saved = self.result(*flags)
        moved = self.folder / "moved"
        self.text.rename(moved)
        self.text = moved
        same = self.result(*flags, "--resume", "--eval-interval", 2, "--eval-batches", 9, "--log",
                           self.folder / "log", "--checkpoint-interval", "7m", "--sample", 5,
                           "--lr", "3.0e-3", "--filter", "clip:15e-1")
        self.assertEqual(same["weights_sha256"], saved["weights_sha256"])
        more = self.result(*flags, "--resume", "--steps", 6,
                           words=["--steps 4 in the checkpoint, 6 now", "--warmup 0 in the checkpoint, 1"])
        self.assertEqual(more["steps"], 6)
        there = self.result(*flags, "--resume", "--steps", 6, "--device", "reference", words=" reference now")
        self.assertEqual(there["steps"], 6)

    def test_the_micro_batch_may_change_even_in_mid_cycle_and_the_run_says_what_that_means(self):
        # No dropout and f64: then only rounding could differ, and the losses agree to 12 digits.
        flags = ["--layers", 1, "--heads", 2, "--width", 16, "--context", 8, "--effective-batch", 61,
                 "--steps", 3, "--device", "reference", "--eval-batches", 1]
        whole = self.result(*flags, "--micro-batch", 2)
        self.stopped(signal.SIGTERM, *flags, "--micro-batch", 2)
        other = self.result(*flags, "--micro-batch", 7, "--checkpoint", self.checkpoint, "--resume",
                            words="--micro-batch 2 in the checkpoint, 7 now")
        self.assertAlmostEqual(whole["val_loss"], other["val_loss"], places=5)

    def test_every_sum_goes_on_with_another_micro_batch_and_what_is_no_sum_is_refused(self):
        flags = [*TINY, "--effective-batch", 61, "--steps", 2]

        def begun_in_mid_cycle(*choice):  # 17 of the second step's 31 micro-batches are done
            shutil.rmtree(self.checkpoint, ignore_errors=True)
            whole = self.result(*flags, *choice, "--micro-batch", 2, "--checkpoint", self.checkpoint,
                                "--checkpoint-interval", "16m")
            (self.checkpoint / "step-2.safetensors").unlink()
            return whole

        for name in ("tree", "f64", "kahan", "fixed_point"):
            for size in (1, 7, 30):
                with self.subTest(accumulator=name, size=size):
                    whole = begun_in_mid_cycle("--accumulate", name)
                    other = self.result(*flags, "--accumulate", name, "--micro-batch", size,
                                        "--checkpoint", self.checkpoint, "--resume",
                                        words=f"--micro-batch 2 in the checkpoint, {size} now")
                    self.assertAlmostEqual(whole["val_loss"], other["val_loss"], places=4)
        for choice in (["--filter", "clip:0.01"], ["--accumulate", "sign_vote"],
                       ["--consume", "adam_a", "--clip", 0, "--keep-non-finite"]):
            with self.subTest(choice=choice):
                begun_in_mid_cycle(*choice)
                done = self.run_it(*flags, *choice, "--micro-batch", 7, "--checkpoint",
                                   self.checkpoint, "--resume")
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("--micro-batch 2 in the checkpoint, 7 now", done.stderr)

    def test_a_tier_that_promises_the_bits_keeps_them_under_another_micro_batch(self):
        flags = [*TINY, "--effective-batch", 61, "--steps", 3, "--reproducible", "split"]
        whole = self.result(*flags, "--micro-batch", 2)
        self.stopped(signal.SIGTERM, *flags, "--micro-batch", 2)
        other_threads = ["--threads", 3] if products_ignore_threads() else []
        other = self.result(*flags, "--micro-batch", 7, *other_threads, "--checkpoint", self.checkpoint,
                            "--resume")  # and not a word of either
        self.assertEqual(whole["weights_sha256"], other["weights_sha256"])

    def test_numbers_beyond_64_bits_and_odd_intervals_are_wrong_usage(self):
        folder = ["--checkpoint", self.checkpoint]
        for flags in (["--steps", 10**19], ["--steps", -10**19], ["--seed", 10**30],
                      ["--checkpoint-interval", "5k", *folder], ["--checkpoint-interval", "m", *folder],
                      ["--checkpoint-interval", "0m", *folder], ["--checkpoint-interval", "-3m", *folder],
                      ["--checkpoint-interval", "5mm", *folder],
                      ["--checkpoint-interval", f"{10**19}m", *folder]):
            done = self.run_it(*RAGGED, *flags)
            with self.subTest(flags=flags):
                self.assertEqual((done.returncode, done.stdout), (2, ""), done.stderr)
                self.assertIn(str(flags[0]), done.stderr)

    def test_a_dry_run_counts_the_checkpoint_to_the_byte(self):
        for interval in (1, "1m"):
            flags = [*RAGGED, "--checkpoint-interval", interval]
            predicted = self.result(*flags, "--dry-run", "--checkpoint", self.folder / f"dry {interval}")
            measured = self.result(*flags, "--steps", 3, "--checkpoint", self.folder / f"run {interval}")
            for key in ("peak_bytes", "peak_bytes_total"):
                self.assertEqual(predicted[key], measured[key], (interval, key))
        self.assertFalse((self.folder / "dry 1").exists())


if __name__ == "__main__":
    unittest.main()
