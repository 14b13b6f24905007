#!/usr/bin/env python3
"""Runs the example programs: what they compute, predict, verify and resume. Long: a test or two of
each program.

    check.py BIN_DIR
"""
import csv
import json
import math
import re
import shutil
import subprocess
import unittest
from pathlib import Path
from xml.etree import ElementTree

from program_case import BIN, TINY, ProgramCase, run


class Programs(ProgramCase):
    def test_by_hand_prints_the_numbers_of_its_comment(self):
        done = run("by_hand")
        self.assertEqual(done.returncode, 0)
        # e = y − t: 2, −4, 4 | 2. Σ 2e·x = 4·(1, 1) − 8·(3, 0) + 8·(2, 1) = (−4, 12), then + 4·(3, 1).
        # Σ 2e = 4, then + 4. Σ e² = 36, then + 4. Means over 4 samples; the step takes half of them.
        expected = """
            w 3 1 / b 2 / micro-batch 1 / y 6 11 9 / loss sum 36 / count 3 /
            w set -4 12 / w sum is now -4 12 / b set 4 / b sum is now 4 /
            micro-batch 2 / y 12 / loss sum 4 / count 1 /
            w add 12 4 / w sum is now 8 16 / b add 4 / b sum is now 8 /
            count 4 / mean loss 10 / w sum 8 16 / w mean gradient 2 4 / b sum 8 / b mean gradient 2 /
            w after the step 2 -1 / b after the step 1"""
        lines = done.stdout.splitlines()
        # Within a micro-batch backward decides which parameter comes first.
        self.assertCountEqual([" ".join(line.split()) for line in lines[:-1]],
                              [" ".join(line.split()) for line in expected.split("/")])
        self.assertEqual(json.loads(lines[-1]), {"mean_loss": 10, "w": [2, -1], "b": [1]})

    def test_one_cycle_is_the_same_for_every_split(self):
        log = self.folder / "log"
        result = self.result("one_cycle", "--data", self.text, *TINY[:8], "--effective-batch", 8,
                             "--log", log)
        cycles = result["cycles"]
        self.assertEqual([one["micro_batches"] for one in cycles], [1, 2, 4, 8])
        for one in cycles:
            # K sums of at most 2·8·8 products each: (K + 128)·2⁻²⁴ of Σ|g|, which cancels some ten times.
            self.assertLess(one["largest_difference"], 1e-4)
            self.assertAlmostEqual(one["loss"], cycles[0]["loss"], delta=1e-5)
        self.assertEqual(cycles[0]["largest_difference"], 0)
        activations = [one["peak_bytes"]["activations"] for one in cycles]
        self.assertEqual(activations, sorted(activations, reverse=True))
        self.assertLess(activations[3], activations[0] / 3)
        self.assertEqual([json.loads(line) for line in log.read_text().splitlines()], cycles)
        bf16 = self.result("one_cycle", "--data", self.text, *TINY[:8], "--effective-batch", 8,
                           "--accumulate", "bf16")["cycles"]
        self.assertGreater(bf16[3]["largest_difference"], 1e-4)  # or the check above could not fail

    def test_accumulator_error_is_within_the_declared_bounds(self):
        table, picture, log = (self.folder / name for name in ("csv", "svg", "log"))
        flags = ["--elements", 512, "--training-steps", 2]
        result = self.result("accumulator_error", "--k-max", 600, "--csv", table, "--svg", picture,
                             "--log", log, "--data", self.text, *flags)
        with table.open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        steps = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600]
        self.assertEqual({row["gradients"] for row in rows}, {"one_sign", "zero_mean", "gpt"})
        self.assertEqual(sorted({int(row["micro_batches"]) for row in rows}), steps)
        self.assertEqual(len(rows), len(log.read_text().splitlines()))
        errors = result["errors"]
        self.assertEqual(len(rows), sum(len(by_k) for one in errors.values() for by_k in one.values()))
        bounded = set()
        for row in rows:
            error = float(row["relative_rms_error"])
            self.assertAlmostEqual(
                error, errors[row["gradients"]][row["accumulator"]][row["micro_batches"]],
                delta=1e-5 * error)  # the table has six digits
            if row["bound"]:
                bounded.add(row["accumulator"])
                self.assertLessEqual(error, float(row["bound"]), row)
        self.assertEqual(set(errors["gpt"]) - bounded, {"median_of_means", "flora"})
        one_sign = {name: by_k["512"] for name, by_k in errors["one_sign"].items()}
        # Of 512 terms of about 1 bf16 rounds each to a multiple of 2; f32 to one of 2⁻¹⁵.
        self.assertGreater(one_sign["bf16"], 1e-2)
        self.assertLess(one_sign["kahan_bf16"], one_sign["bf16"] / 4)
        self.assertLess(one_sign["f32"], 1e-7)
        ones = result["equal_terms"]
        self.assertEqual([ones[name] for name in ("bf16", "kahan_bf16", "f32")], [256, 512, 512])

        root = ElementTree.parse(picture).getroot()
        words = "".join(root.itertext())
        for name in one_sign:
            self.assertIn(name, words)
        again = self.result("accumulator_error", "--k-max", 4, *flags)
        other = self.result("accumulator_error", "--k-max", 4, *flags, "--seed", 2)
        self.assertEqual(set(again["errors"]), {"one_sign", "zero_mean", "gpt"})
        self.assertNotEqual(again["errors"], other["errors"])

    def test_adam_moments_are_those_of_the_papers(self):
        result = self.result("adam_moments", "--check", "--weights", 200_000)
        for way, one in result["increments"].items():
            # The noisiest figure is the mean of 800,000 squares of noise: 1/4·√2/√800,000 = 4e-4.
            self.assertAlmostEqual(one["mean"], 1, delta=1e-5, msg=way)
            self.assertAlmostEqual(one["variance"], one["expected_variance"], delta=2e-3, msg=way)
        self.assertEqual([round(one["expected_variance"], 3) for one in result["increments"].values()],
                         [1.031, 0.156, 1.25])
        small = result["memory"]["small"]
        for way in ("adam", "adam_a"):
            self.assertEqual(small[way]["peak_bytes_total"], small[way]["measured_peak_bytes_total"])
        for one in result["memory"].values():
            # At best the sums' 4 of 16 bytes a weight.
            self.assertTrue(0 < one["saved"] < 0.25, one)

    def test_readme_trains(self):
        self.assertGreater(self.result("readme", self.text, "--device", "cpu")["steps"], 1)

    def test_the_tutorials_programs_compute_the_same_on_the_cpu(self):
        for name in ("batch_size", "own_accumulator", "precision", "ragged_batches"):
            quoted, cpu = (self.numbers(self.result(name, *flags)) for flags in ([], ["--device", "cpu"]))
            self.assertGreater(len(quoted), 1)
            for one, other in zip(quoted, cpu, strict=True):
                self.assertAlmostEqual(one, other, delta=1e-6 * max(1, abs(one)), msg=name)
        self.assertTrue(self.result("stop_and_resume", "--device", "cpu")["same_bits"])

    def numbers(self, result):
        return [one for value in result.values() for one in (value if isinstance(value, list) else [value])]

    def test_a_dry_run_predicts_the_peak_to_the_byte(self):
        for flags in ([], ["--dtype", "bf16"], ["--recompute", "block", "--accumulate", "kahan"],
                      ["--positions", "rope", "--norm", "rms", "--activation", "swiglu", "--untied"],
                      ["--device", "reference", "--dropout", 0.1],
                      ["--checkpoint", self.folder / "at the end"],
                      ["--checkpoint", self.folder / "and a sample", "--sample", 12],
                      # One micro-batch in a cycle, of which the second step has what the first left.
                      ["--layers", 1, "--width", 256, "--context", 33, "--activation", "swiglu",
                       "--micro-batch", 3, "--effective-batch", 3, "--eval-batches", 1],
                      # Rows enough for kept transposes, and in the last micro-batch too few.
                      ["--context", 64, "--micro-batch", 3, "--effective-batch", 8],
                      ["--checkpoint", self.folder / "each", "--checkpoint-interval", 1]):
            with self.subTest(flags=flags):
                predicted = self.train("--dry-run", "--steps", 2, *flags)
                measured = self.train("--steps", 2, *flags)
                self.assertEqual(predicted["peak_bytes"], measured["peak_bytes"])
                self.assertEqual(predicted["peak_bytes_total"], measured["peak_bytes_total"])
                self.assertEqual(predicted["parameters"], measured["parameters"])

    def test_a_sample_has_each_of_its_tokens_zeros_included(self):
        for seed in (1, 2):
            flags = ["--data", self.text, *TINY, "--tokenizer", "byte", "--steps", 1, "--seed", seed]
            out = subprocess.run([BIN / "train_gpt", *map(str, flags), "--sample", "2000"],
                                 capture_output=True, timeout=300, check=True).stdout
            sampled = out.rsplit(b"\n\n", 1)[0].split(b"\n\n", 1)[1]
            self.assertEqual(len(sampled), 2000)
            self.assertIn(b"\0", sampled)

    def test_a_default_that_is_written_out_is_the_same_flag_to_a_resumed_run(self):
        flags = ["--data", self.text, *TINY[:8], "--effective-batch", 5, "--filter", "clip:1", "--steps", 2]
        given = ["--micro-batch", 5]
        for begun, resumed in ((), given), (given, ()):
            folder = self.folder / f"begun with {len(begun)}"
            first = self.result("train_gpt", *flags, *begun, "--checkpoint", folder)
            again = self.result("train_gpt", *flags, *resumed, "--checkpoint", folder, "--resume")
            self.assertEqual(first["weights_sha256"], again["weights_sha256"])
            self.refused(1, "--micro-batch", "train_gpt", *flags, "--micro-batch", 2, "--checkpoint", folder,
                         "--resume")

    def test_verify_finds_no_error_beyond_accumulator_and_arithmetic(self):
        for flags, most in ((["--dropout", 0.1, "--recompute", "block"], 1e-5),
                            (["--accumulate", "bf16"], 0.05), (["--dtype", "bf16"], 0.05)):
            done = run("train_gpt", "--data", self.text, *TINY, "--verify", 3, *flags)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            lines = done.stdout.splitlines()
            self.assertIn("3 samples in f64", lines[0])  # how long it will take comes first
            result = json.loads(lines[-1])
            self.assertTrue(result["verified"])
            for seconds in (result["estimated_seconds"], result["seconds"]):
                self.assertTrue(math.isfinite(seconds) and seconds > 0, seconds)
            self.assertEqual(result["micro_batches"], 2)
            errors = [one["error"] for one in result["parameters"]]
            names = [one["name"] for one in result["parameters"]]
            self.assertEqual([line.split()[0] for line in lines[2:2 + len(names)]], names)
            self.assertIn(f"all {len(names)} parameters are within", done.stdout)
            self.assertEqual(errors, sorted(errors, reverse=True))
            self.assertEqual(errors[0], result["worst_error"])
            self.assertLess(errors[0], most)
            self.assertGreater(errors[0], most / 1000)
            self.assertAlmostEqual(result["loss"], result["exact_loss"], delta=most)

    def test_verify_says_what_it_could_not_judge_and_fails_where_the_loss_scale_overflows(self):
        flags = ["--data", self.text, *TINY, "--verify"]
        done = run("train_gpt", *flags, 2, "--accumulate", "median_of_means:*.ln_1.*")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        unjudged = re.search("declare no bound: (.*)", done.stdout)[1].split(", ")
        self.assertEqual(sorted(unjudged), [f"transformer.h.{layer}.ln_1.{part}" for layer in (0, 1)
                                            for part in ("bias", "weight")])
        self.assertIn("one micro-batch", done.stdout)
        failed = run("train_gpt", *flags, 3, "--dtype", "f16", "--loss-scale", 1e30)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("overflow of the loss scale", failed.stderr)
        self.assertIn("try --loss-scale", failed.stderr)
        self.refused(2, "--verify", "train_gpt", *flags, 0)

    def test_verify_looks_at_a_checkpoint_from_within_a_cycle_and_makes_none(self):
        folder = self.folder / "checkpoint"
        flags = ["--steps", 3, "--checkpoint", folder]
        self.train(*flags, "--checkpoint-interval", "2m")  # of three micro-batches a step
        saved = {path.name: path.read_bytes() for path in folder.iterdir()}
        newest = folder / "step-3.safetensors"
        self.assertEqual(set(saved), {newest.name, "step-2-micro-2.safetensors"})
        newest.unlink()
        done = run("train_gpt", "--data", self.text, *TINY, *flags, "--resume", "--verify", 3)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("from its beginning", done.stderr)
        self.assertTrue(json.loads(done.stdout.splitlines()[-1])["verified"])
        self.assertEqual({path.name: path.read_bytes() for path in folder.iterdir()},
                         {name: data for name, data in saved.items() if name != newest.name})
        none = self.folder / "none"
        self.train("--verify", 2, "--checkpoint", none)
        self.assertFalse(none.exists())

    def test_an_interval_in_micro_batches_means_those_of_the_flag_in_every_tier(self):
        for tier in ("run", "split"):
            folder = self.folder / tier
            self.train("--steps", 2, "--effective-batch", 12, "--checkpoint", folder, "--reproducible",
                       tier, "--checkpoint-interval", "4m", "--micro-batch", 2)
            (folder / "step-2.safetensors").unlink()  # the end's
            # Twelve micro-batches, saved after four, eight and twelve; a granule has one sample.
            left = {"run": "step-1-micro-6", "split": "step-1-micro-12"}[tier]
            self.assertEqual([path.name for path in folder.iterdir()], [f"{left}.safetensors"])

    def test_records_and_skipped_cycles_are_reported(self):
        log = self.folder / "log"
        plain = self.train("--steps", 4, "--log", log)
        self.assertNotIn("micro_batches", log.read_text())
        self.assertEqual(plain["skipped_cycles"], 0)
        self.assertEqual(self.train("--steps", 4, "--log", log, "--records")["weights_sha256"],
                         plain["weights_sha256"])
        self.train("--steps", 4, "--log", log, "--records", "--filter", "observe")
        for line in map(json.loads, log.read_text().splitlines()):
            rows = line["micro_batches"]
            self.assertFalse(line["skipped"])
            self.assertEqual([row["samples"] for row in rows], [2, 2, 1])
            self.assertAlmostEqual(sum(row["loss"] for row in rows) / sum(row["count"] for row in rows),
                                   line["loss"], delta=1e-9)
            for row in rows:
                self.assertFalse(row["non_finite"])
                for key in ("bytes", "milliseconds", "gradient_norm"):
                    self.assertGreater(row[key], 0, key)
            self.assertEqual([-1 <= row["cosine"] <= 1 for row in rows[1:]], [True, True])
        # 3e38 overflows until halved: a few cycles are skipped; of one cycle all are.
        result = self.train("--steps", 30, "--log", log, "--loss-scale", 3e38)
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertGreater(result["skipped_cycles"], 0)
        self.assertEqual(result["skipped_cycles"], sum(line["skipped"] for line in lines))
        self.assertEqual(result["steps"] + result["skipped_cycles"], 30)
        done = run("train_gpt", "--data", self.text, *TINY, "--steps", 2, "--loss-scale", 3e38)
        self.assertEqual(done.returncode, 0)
        self.assertIn("not one step was taken", done.stderr)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["skipped_cycles"], 2)

    def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(self):
        folder, log = self.folder / "checkpoint", self.folder / "log"
        flags = ["--steps", 20, "--dropout", 0.1, "--accumulate", "kahan", "--eval-interval", 5,
                 "--checkpoint", folder, "--checkpoint-interval", 10, "--log", log]
        whole = self.train(*flags)
        whole_log = log.read_text()
        (folder / "step-20.safetensors").unlink()  # as if stopped between steps 10 and 20
        resumed = self.train(*flags, "--resume")
        for key in ("weights_sha256", "val_loss", "best_val_loss", "train_loss", "steps"):
            self.assertEqual(whole[key], resumed[key], key)
        losses = [[json.loads(line)["loss"] for line in one.splitlines()]
                  for one in (whole_log, log.read_text())]
        self.assertEqual(*losses)
        self.assertNotEqual(self.train(*flags[:-6], "--seed", 2)["weights_sha256"],
                            whole["weights_sha256"])

        # A damaged newest file is named, and the one before it serves.
        newest = folder / "step-20.safetensors"
        damaged = bytearray(newest.read_bytes())
        damaged[-1] ^= 1
        newest.write_bytes(damaged)
        done = run("train_gpt", "--data", self.text, *TINY, *flags, "--resume")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("step-20.safetensors", done.stderr)
        self.assertEqual(json.loads(done.stdout.splitlines()[-1])["weights_sha256"],
                         whole["weights_sha256"])

    def test_a_checkpoint_is_never_damaged(self):
        folder = self.folder / "checkpoint"
        flags = ["--data", self.text, *TINY, "--checkpoint", folder, "--steps", 4, "--eval-interval", 2]
        self.result("train_gpt", *flags)
        saved = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.assertEqual(set(saved), {"step-2.safetensors", "step-4.safetensors"})
        self.refused(1, "--resume", "train_gpt", *flags)
        for change in (["--width", 32], ["--heads", 4], ["--tokenizer", "byte"], ["--seed", 2],
                       ["--effective-batch", 6]):
            self.refused(1, "try", "train_gpt", *flags, "--resume", *change)
        self.assertEqual({path.name: path.read_bytes() for path in folder.iterdir()}, saved)
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes()[:100])
        done = self.refused(1, "step-2.safetensors", "train_gpt", *flags, "--resume")
        self.assertIn("step-4.safetensors", done.stderr)
        shutil.rmtree(folder)
        self.refused(1, "without --resume", "train_gpt", *flags, "--resume")


if __name__ == "__main__":
    unittest.main()
