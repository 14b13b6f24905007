#!/usr/bin/env python3
"""Runs train_gpt with a batch that changes, averaged weights, and the search for a rate.

    check_schedules.py BIN_DIR
"""
import json
import unittest

from program_case import TINY, ProgramCase, run


class Schedules(ProgramCase):
    def logged(self, *flags):
        """The lines that a run writes to its log."""
        log = self.folder / "log"
        self.train("--log", log, *flags)
        return [json.loads(line) for line in log.read_text().splitlines()]

    def test_a_table_decides_the_batch_of_each_step_and_the_rate_follows(self):
        flags = ["--steps", 6, "--warmup", 0, "--min-lr", 1e-3, "--lr", 1e-3]
        lines = self.logged(*flags, "--batch-schedule", "0:5,2:20,4:3", "--lr-rule", "sqrt")
        self.assertEqual([line["batch"] for line in lines], [5, 5, 20, 20, 3, 3])
        for line in lines:
            self.assertAlmostEqual(line["lr"], 1e-3 * (line["batch"] / 5) ** 0.5, delta=1e-12)
        plain = self.logged(*flags, "--batch-schedule", "0:5,2:20,4:3")
        self.assertEqual({line["lr"] for line in plain}, {1e-3})

    def test_a_run_says_from_which_step_on_the_batch_is_another(self):
        flags = ["--data", self.text, *TINY, "--steps", 6, "--batch-schedule", "0:5,2:20,4:3"]
        said = [line for line in run("train_gpt", *flags).stdout.splitlines() if "batches" in line]
        self.assertEqual(said, ["step 3: batches of 20 sequences from here on",
                                "step 5: batches of 3 sequences from here on"])

    def test_a_warm_up_keeps_its_length_in_tokens(self):
        flags = ["--steps", 20, "--warmup", 8]  # of 5 sequences: 40
        for batch, steps in ((5, 8), (10, 4), (3, 14)):
            lines = self.logged(*flags, "--batch-schedule", f"0:{batch}")
            rates = [line["lr"] for line in lines]
            self.assertEqual(rates.index(max(rates)), steps - 1, batch)

    def test_a_table_of_one_batch_is_that_batch(self):
        plain = self.train("--steps", 3)
        self.assertEqual(self.train("--steps", 3, "--batch-schedule", "0:5")["weights_sha256"],
                         plain["weights_sha256"])
        self.assertNotEqual(self.train("--steps", 3, "--batch-schedule", "0:6")["weights_sha256"],
                            plain["weights_sha256"])

    def test_a_half_life_of_so_many_tokens_is_a_beta_for_constant_batches(self):
        # 40 tokens a step; .9 per step has a half-life of 40·ln ½/ln .9.
        half_life = 40 * 6.578813478960585
        flags = ["--steps", 8, "--eval-interval", 8, "--lr", 1e-2]
        beta = self.train(*flags, "--beta2", 0.9)
        tokens = self.train(*flags, "--beta2-half-life", half_life)
        # Eight steps in f32; a wrong β moves the loss by far more.
        self.assertAlmostEqual(tokens["val_loss"], beta["val_loss"], delta=1e-5)
        other = self.train(*flags, "--beta2-half-life", half_life / 3)
        self.assertGreater(abs(other["val_loss"] - beta["val_loss"]), 1e-4)

    def test_no_plateau_is_seen_before_the_warm_up_ends(self):
        flags = ["--steps", 12, "--eval-interval", 1, "--lr", 0, "--batch-by", "plateau"]
        lines = self.logged(*flags, "--warmup", 12)
        self.assertEqual({line["batch"] for line in lines}, {lines[0]["batch"]})
        self.assertGreater(len({line["batch"] for line in self.logged(*flags, "--warmup", 2)}), 1)

    def test_a_plateau_enlarges_the_batch_up_to_its_maximum(self):
        lines = self.logged("--steps", 12, "--eval-interval", 1, "--lr", 0, "--warmup", 0,
                            "--batch-by", "plateau", "--max-batch", 12)  # nothing is learnt: every loss is a plateau
        # The first loss is the best so far, then three wait; 10 and 20 are cut to 10 and 12.
        self.assertEqual([line["batch"] for line in lines], [5] * 4 + [10] * 3 + [12] * 5)

    def test_by_noise_the_batch_moves_within_its_limits_once_warmed_up(self):
        flags = ["--steps", 40, "--warmup", 10, "--lr", 1e-2]
        lines = self.logged(*flags, "--batch-by", "noise", "--max-batch", 16)
        batches = [line["batch"] for line in lines]
        self.assertEqual(batches[:10], [5] * 10)
        self.assertTrue(all(batch in (4, 5, 6, 8, 10, 12, 14, 16) for batch in batches), batches)
        self.assertGreater(len(set(batches)), 1)
        for before, after in zip(lines, lines[1:]):
            if after["batch"] != before["batch"]:
                wanted = min(max(round(before["noise_scale"] / 2) * 2, 4), 16)
                self.assertEqual(after["batch"], wanted)
        plain = self.logged(*flags)
        self.assertFalse(any("noise_scale" in line for line in plain))
        # Measuring alone changes nothing: until the batch moves, losses are those of a plain run.
        same = batches.index(next(batch for batch in batches if batch != 5))
        self.assertEqual([line["loss"] for line in lines[:same]],
                         [line["loss"] for line in plain[:same]])

    def test_a_tier_keeps_its_bits_under_any_micro_batch_where_the_batch_adapts(self):
        flags = ["--reproducible", "split", "--effective-batch", 6, "--steps", 12, "--warmup", 2,
                 "--eval-interval", 1, "--eval-batches", 3, "--dropout", 0.1]
        for batch in (["--batch-by", "noise", "--lr", 1e-2], ["--batch-by", "plateau", "--lr", 0],
                      ["--batch-by", "noise", "--granule", 2, "--lr", 1e-2],
                      ["--batch-by", "plateau", "--lr", 0, "--reproducible", "ranks"]):
            batches, hashes = set(), set()
            with self.subTest(batch=batch):
                for micro in (1, 2, 3, 6):
                    log = self.folder / "log"
                    result = self.train(*flags, *batch, "--micro-batch", micro, "--log", log)
                    lines = [json.loads(line) for line in log.read_text().splitlines()]
                    hashes.add((result["weights_sha256"], result["val_loss"], result["best_val_loss"]))
                    batches.add(tuple(line["batch"] for line in lines))
                self.assertEqual((len(hashes), len(batches)), (1, 1), (hashes, batches))
                self.assertGreater(len(set(batches.pop())), 1)  # or nothing was adapted
        # In the tier `run` both do depend on it, so the comparison can fail.
        run_tier = {self.train(*flags, "--reproducible", "run", "--micro-batch", micro)["val_loss"]
                    for micro in (1, 6)}
        self.assertEqual(len(run_tier), 2)

    def test_averaged_weights_are_validated_beside_the_others_and_change_nothing(self):
        flags = ["--steps", 6, "--eval-interval", 3]
        plain, averaged = self.train(*flags), self.train(*flags, "--ema", 0.9)
        self.assertNotIn("ema_val_loss", plain)
        self.assertEqual(averaged["weights_sha256"], plain["weights_sha256"])
        self.assertEqual(averaged["val_loss"], plain["val_loss"])
        self.assertNotEqual(averaged["ema_val_loss"], averaged["val_loss"])
        same = self.train(*flags, "--lr", 0, "--ema", 0.9)  # no movement: nothing to average
        self.assertEqual(same["ema_val_loss"], same["val_loss"])
        lines = self.logged(*flags, "--ema", 0.9, "--dtype", "bf16")
        self.assertEqual(["ema_val_loss" in line for line in lines], [False, False, True] * 2)

    def test_a_dry_run_predicts_for_the_largest_batch(self):
        for flags in (["--batch-schedule", "0:3,1:21"], ["--ema", 0.9, "--dtype", "bf16"],
                      ["--batch-schedule", "0:11,1:2", "--ema", 0.9],
                      ["--batch-by", "noise", "--effective-batch", 6, "--max-batch", 6]):
            with self.subTest(flags=flags):
                predicted = self.train("--dry-run", *flags)
                measured = self.train("--steps", 2, "--warmup", 0, *flags)
                self.assertEqual(predicted["peak_bytes"], measured["peak_bytes"])

    def test_a_resumed_run_with_schedules_has_the_bits_of_an_uninterrupted_one(self):
        for batch in (["--batch-schedule", "0:5,6:12,11:3", "--lr-rule", "linear"],
                      ["--batch-by", "plateau", "--max-batch", 12, "--lr", 0],
                      ["--batch-by", "noise", "--max-batch", 16]):
            folder = self.folder / "-".join(map(str, batch[:2])).strip("-")
            constant = ["--steps", 14, "--warmup", 2, "--eval-interval", 2, "--ema", 0.8,
                        "--beta2-half-life", 900, "--checkpoint", folder,
                        "--checkpoint-interval", 7]
            flags = [*constant, *batch]
            with self.subTest(batch=batch):
                whole = self.train(*flags)
                (folder / "step-14.safetensors").unlink()
                resumed = self.train(*flags, "--resume")
                for key in ("weights_sha256", "val_loss", "ema_val_loss"):
                    self.assertEqual(whole[key], resumed[key], key)
                self.refused(1, "try", "train_gpt", "--data", self.text, *TINY, *constant,
                             "--resume")

    def test_the_search_for_a_rate_prints_a_table_and_a_suggestion_and_saves_nothing(self):
        log = self.folder / "log"
        done = run("train_gpt", "--data", self.text, *TINY, "--find-lr", "--log", log)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        result = json.loads(done.stdout.splitlines()[-1])
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual(len(lines), result["steps"])
        self.assertEqual(done.stdout.split()[:3], ["rate", "loss", "smoothed"])
        rates = [line["lr"] for line in lines]
        self.assertEqual(rates, sorted(rates))
        self.assertIn(result["steepest"], rates)
        self.assertIsNotNone(result["divergence"])  # a rate of 10 is too large for any model
        self.assertAlmostEqual(result["tenth_of_divergence"], result["divergence"] / 10)
        self.assertEqual(result["lr"], min(result["steepest"], result["tenth_of_divergence"]))
        self.assertEqual({path.name for path in self.folder.iterdir()}, {"text", "log"})
        # The suggestion does better than a hundredth of it and than the rate that diverged.
        losses = [self.train("--steps", 40, "--warmup", 4, "--lr", rate)["val_loss"]
                  for rate in (result["lr"], result["lr"] / 100, result["divergence"])]
        self.assertLess(losses[0], min(losses[1:]))

    def test_conflicts_are_wrong_usage(self):
        for word, flags in (
                ("0:32,1000:64", ["--batch-schedule", "4"]),
                ("step 0", ["--batch-schedule", "1:4"]),
                ("--warmup", ["--batch-schedule", "0:1", "--steps", 9, "--warmup", 9]),
                ("--batch-by", ["--batch-schedule", "0:4", "--batch-by", "plateau"]),
                ("two micro-batches", ["--batch-by", "noise", "--micro-batch", 5]),
                ("multiple", ["--batch-by", "plateau", "--max-batch", 7]),
                ("--max-batch", ["--batch-by", "plateau", "--max-batch", 4]),
                ("--batch-by", ["--max-batch", 8]),
                ("constant batch", ["--lr-rule", "linear"]),
                ("cubic", ["--lr-rule", "cubic"]),
                ("half-life", ["--beta2-half-life", -1]),
                ("half-life", ["--beta2-half-life", "nan"]),
                ("--beta2", ["--beta2-half-life", 9, "--beta2", 0.9]),
                ("--ema", ["--ema", 1]), ("--ema", ["--ema", -0.1]),
                ("--steps", ["--find-lr", "--steps", 1]),
                *(("--find-lr", ["--find-lr", *other]) for other in (
                    ["--lr", 1], ["--verify", 2], ["--min-lr", 0], ["--warmup", 1], ["--dry-run"], ["--ema", 0.9],
                    ["--checkpoint", self.folder / "c"], ["--sample", 9], ["--lr-rule", "none"],
                    ["--batch-schedule", "0:4"], ["--batch-by", "noise"]))):
            self.refused(2, word, "train_gpt", "--data", self.text, *TINY, *flags)


if __name__ == "__main__":
    unittest.main()
