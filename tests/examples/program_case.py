"""What the tests of the example programs share: running one, and what it must say."""
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

BIN = Path(sys.argv.pop(1)).resolve()
TINY = ["--layers", "2", "--heads", "2", "--width", "16", "--context", "8", "--micro-batch", "2",
        "--effective-batch", "5"]


def run(program, *flags):
    return subprocess.run([BIN / program, *map(str, flags)], capture_output=True, text=True,
                          timeout=300, check=False)


class ProgramCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.text = self.folder / "text"
        self.text.write_text("To be, or not to be: that is the question.\n" * 60)

    def result(self, program, *flags):
        """The JSON object in the last line of a run that must succeed without a word on stderr."""
        done = run(program, *flags)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.args)
        return json.loads(done.stdout.splitlines()[-1])

    def train(self, *flags):
        return self.result("train_gpt", "--data", self.text, *TINY, *flags)

    def refused(self, status, word, program, *flags):
        """One line on stderr that has the word, the status, and nothing on stdout."""
        done = run(program, *flags)
        with self.subTest(flags=flags):
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            self.assertIn(word, done.stderr)
        return done
