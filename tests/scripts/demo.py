#!/usr/bin/env python3
"""Runs scripts/demo.sh in a tree of its own, where to build is to link the programs of BIN.

    demo.py BIN
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.argv.pop(1)).resolve()

CMAKE = """#!/bin/sh
echo "$*" >> cmake.log
[ "$1" != --build ] || ln -sf "$PROGRAMS"/* build/bin/"""
# In the programs' place: prints its flags, and a speed in the last line.
PRINTS = """#!/bin/sh
echo "$*"
echo '{"tokens_per_second": 15360}'"""
BIBLE = """#!/bin/sh
seq -f "1John%g:3 Divided light from darkness, and called the light Day, and the darkness he called \
Night: and the evening and the morning were the first day." VERSES; exit STATUS"""


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
    path.chmod(0o755)


class Demo(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.demo = self.folder / "build/demo"
        self.tools = self.folder / "build/tools"
        shutil.copytree(ROOT / "scripts", self.folder / "scripts")
        (self.folder / "build/bin").mkdir(parents=True)
        self.tools.mkdir()
        for path in os.environ["PATH"].split(os.pathsep):  # all, but for what is replaced here
            for tool in Path(path).glob("*"):
                if tool.name not in ("bible", "cmake") and not (self.tools / tool.name).is_symlink():
                    (self.tools / tool.name).symlink_to(tool)
        write_program(self.tools / "cmake", CMAKE)

    def run_it(self, *flags, programs=BIN):
        environment = {**os.environ, "PATH": str(self.tools), "ACCRUE_SKIP_SETUP": "1",
                       "PROGRAMS": str(programs)}
        return subprocess.run(["bash", self.folder / "scripts/demo.sh", *flags], env=environment,
                              capture_output=True, text=True, timeout=300, check=False)

    def run_printing(self, verses, status, *flags):
        """What is printed where the programs only print, and the text is this long."""
        programs = self.folder / "build/programs"
        for name in ("train_gpt", "one_cycle"):
            write_program(programs / name, PRINTS)
        write_program(self.tools / "bible",
                      BIBLE.replace("VERSES", str(verses)).replace("STATUS", str(status)))
        done = self.run_it(*flags, programs=programs)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_without_the_king_james_text_it_trains_on_sources_and_shows_one_cycle(self):
        names = ["README.md", "nn/gpt.cpp"]
        for name in names:
            (self.folder / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.folder / name)
        earlier = self.demo / "checkpoint/step-9.safetensors"
        earlier.parent.mkdir(parents=True)
        earlier.write_text("of an earlier demo")
        done = self.run_it("--steps", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "cmake.log").read_text().splitlines(),
                         ["--preset release", "--build --preset release --target train_gpt one_cycle"])
        self.assertIn("on this project's sources", done.stderr)
        self.assertEqual((self.demo / "text.txt").read_text(),
                         "".join((ROOT / name).read_text() for name in names))
        validation, _, rest = done.stdout.partition("\n\n")
        self.assertRegex(validation, r"^step 1: training loss \d\.\d+, validation loss \d\.\d+$")
        self.assertEqual(rest[500:503], "\n\n{")  # after a sample of 500 letters
        result = json.loads((self.demo / "result.json").read_text())
        self.assertEqual(result["steps"], 1)
        self.assertIn(f"validation loss {result['val_loss']:.4f}", validation)
        self.assertEqual(len((self.demo / "log.jsonl").read_text().splitlines()), 1)
        self.assertEqual([path.name for path in earlier.parent.iterdir()], ["step-1.safetensors"])
        self.assertRegex(done.stdout, r"\nmicro-batches \(K\) +1 +2 +4 +8\n")
        self.assertRegex(done.stdout, r"\nlargest gradient difference +0\.0e\+00( +\d\.\de-\d\d){3}\n")
        self.assertNotIn('"cycles"', done.stdout)  # that line is for programs

    def test_it_trains_for_three_minutes_on_the_king_james_text_without_its_references(self):
        done = self.run_printing(31102, 0)
        lines = (self.demo / "text.txt").read_text().splitlines()
        self.assertEqual(len(lines), 31102)
        self.assertEqual({line[:20] for line in lines}, {"Divided light from d"})
        # 180 s of 15360 tokens a second, of which a step takes 24·64.
        self.assertIn(" --steps 1800 --lr", done.stdout)
        self.assertIn(" --warmup 90 --eval-interval 225 ", done.stdout)
        self.assertNotIn("sources", done.stderr)

    def test_a_text_that_was_cut_short_is_not_used(self):
        (self.folder / "only.md").write_text("all there is\n")
        for verses, status in ((30999, 0), (31102, 1)):
            done = self.run_printing(verses, status, "--steps", "7")
            self.assertIn("on this project's sources", done.stderr)
            self.assertEqual((self.demo / "text.txt").read_text(), "all there is\n")
            self.assertIn(" --steps 7 ", done.stdout)
        self.assertEqual({path.name for path in self.demo.glob("text*")}, {"text.txt"})

    def test_wrong_usage_ends_it_before_it_does_anything(self):
        for flags in (["--steps", "x"], ["--steps", "0"], ["--steps", "-1"], ["--steps", "1.5"],
                      ["--steps"], ["--step", "1"], ["now"]):
            done = self.run_it(*flags)
            self.assertEqual((done.returncode, done.stdout), (2, ""), flags)
            self.assertIn(flags[0], done.stderr)
        self.assertEqual(self.run_it("--help").returncode, 0)
        self.assertFalse((self.folder / "cmake.log").exists() or self.demo.exists())


if __name__ == "__main__":
    unittest.main()
