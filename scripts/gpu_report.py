#!/usr/bin/env python3
"""Makes gpu_check.json and gpu_check.txt of what scripts/gpu_check.sh ran.

    gpu_report.py RESULTS OUT     ends with 1 if a part failed or none was run

RESULTS holds for each part NAME.part (exit status, seconds, command), NAME.out and NAME.err. A
program's result is the JSON of its last line.
"""
import json
import statistics
import sys
from pathlib import Path


def read_part(path):
    status, seconds, command = path.read_text(encoding="utf-8").split("\n", 2)
    part = {"part": path.stem, "status": status if status == "skipped" else int(status),
            "seconds": int(seconds), "command": command.rstrip("\n")}
    lines = {}
    for suffix in (".out", ".err"):
        file = path.with_suffix(suffix)
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        lines[suffix] = text.splitlines()
    try:
        part["result"] = json.loads(lines[".out"][-1])
    except (IndexError, ValueError):
        pass
    if part["status"] not in (0, "skipped"):
        part["last_lines"] = lines[".out"][-5:] + lines[".err"][-10:]
    return part


class Figures:
    """Rows (what, value, target); a target is "≥ 1.0" or empty."""

    def __init__(self, parts):
        self.results = {part["part"]: part["result"] for part in parts
                        if isinstance(part.get("result"), dict)}
        self.rows = []

    def add(self, what, value, form, target="", reason=""):
        met = None
        if target:
            sign, bound = target.split()
            met = value >= float(bound) if sign == "≥" else value <= float(bound)
        self.rows.append({"what": what, "value": value, "shown": form.format(value),
                          "target": target, "met": met, "reason": "" if met else reason})

    def rows_of(self, name):
        return {row["micro_batch"]: row for row in self.results.get(name, {}).get("rows", [])}

    def best_rows_of(self, *names):
        best = {}
        for row in (row for name in names for row in self.rows_of(name).values()):
            known = best.get(row["micro_batch"])
            if known is None or row["tokens_per_second"] > known["tokens_per_second"]:
                best[row["micro_batch"]] = row
        return best

    def training(self):
        ours = self.rows_of("bench_gpt2_bf16")
        peers = self.best_rows_of("torch_gpt2_bf16", "torch_gpt2_bf16_tuned")
        for micro, row in ours.items():
            name = f"GPT-2 124M, bf16, micro-batch {micro}"
            first = micro == next(iter(ours))
            self.add(f"{name}: useful TFLOP/s", row["gflops"] * 1e-3, "{:.0f}")
            self.add(f"{name}: of the best product", row["of_best_gemm"], "{:.2f}",
                     "≥ 0.50" if first else "")
            self.add(f"{name}: over the floor", row["over_floor"], "{:.2f}")
            if "replayed" in row:
                self.add(f"{name}: micro-batches replayed from graphs",
                         row["replayed"] / max(row["replayed"] + row["eager"], 1), "{:.2f}", "≥ 0.9",
                         row["why_eager"])
            if not first:
                self.add(f"{name}: time over that of {next(iter(ours))}", row["over_first"], "{:.3f}",
                         {32: "≤ 1.05", 8: "≤ 1.15"}.get(micro, ""))
            if micro in peers:
                self.add(f"{name}: speed over PyTorch's",
                         row["tokens_per_second"] / peers[micro]["tokens_per_second"], "{:.2f}",
                         "≥ 1.0" if first else "")
                if not first:
                    self.add(f"{name}: PyTorch's ratio", peers[next(iter(ours))]["tokens_per_second"] /
                             peers[micro]["tokens_per_second"], "{:.3f}")
        for model, dtypes, target in (("width384", ["bf16"], ""), ("width128", ["f32", "bf16"], "≥ 5")):
            for dtype in dtypes:
                peers = self.rows_of(f"torch_{model}_{dtype}")
                for micro, row in self.rows_of(f"bench_{model}_{dtype}").items():
                    name = f"{model}, {dtype}, micro-batch {micro}"
                    self.add(f"{name}: tokens a second", row["tokens_per_second"], "{:,.0f}")
                    if micro in peers:
                        self.add(f"{name}: speed over PyTorch's",
                                 row["tokens_per_second"] / peers[micro]["tokens_per_second"],
                                 "{:.2f}", target if micro == 12 else "")

    def kernels(self):
        for dtype in ("bf16", "f32"):
            result = self.results.get(f"bench_kernels_{dtype}")
            if not result:
                continue
            if "slope_in_product" in result:
                self.add("gelu's slope: taken by cuBLASLt", int(result["slope_in_product"]), "{:.0f}",
                         "≥ 1")
            self.add(f"copy, GB/s ({dtype} run)", result["copy_gb_per_second"], "{:.0f}")
            for row in result["kernels"]:
                self.add(f"{row['kernel']}, {dtype}: of the copy", row["of_copy"], "{:.2f}", "≥ 0.80")
            for row in result["attention"]:
                if "refused" in row:  # what GPT-2 needs: own kernels would take its place unseen
                    self.add(f"attention {row['way']}, head size {row['head_size']}: taken by cuDNN",
                             0, "{:.0f}", "≥ 1", row["refused"])
                    continue
                self.add(f"attention {row['way']}, {row['by']}, {dtype}, head size "
                         f"{row['head_size']}, dropout {row['dropout']}: TFLOP/s",
                         row["tflops"], "{:.0f}")
            if dtype == "bf16":  # the product is bf16 into f32 in both
                for row in result["weight_gradient"]:
                    self.add(f"weight gradient, {row['way']}: ms", row["milliseconds"], "{:.2f}")
                    self.add(f"weight gradient, {row['way']}: peak MiB", row["peak_bytes"] / 2 ** 20,
                             "{:,.0f}")
                    if row["way"] == "in place":  # cuBLASLt's workspace is all that it may want
                        self.add("weight gradient, in place: extra peak MiB",
                                 row["extra_peak_bytes"] / 2 ** 20, "{:,.0f}", "≤ 32")
                    else:
                        self.add(f"weight gradient, {row['way']}: time over in place",
                                 row["over_in_place"], "{:.2f}",
                                 "≥ 1.3" if row["way"].startswith("f32") else "")
        ceilings = self.results.get("torch_gpt2_bf16", {}).get("ceilings", {})
        for name, value in ceilings.items():
            self.add(f"PyTorch's ceiling: {name}", value, "{:.0f}")

    def text(self):
        runs = [self.results[name] for name in sorted(self.results) if name.startswith("text_seed")]
        if len(runs) == 3:
            self.add("tinyshakespeare: validation loss, median of three seeds",
                     statistics.median(run["best_val_loss"] for run in runs), "{:.4f}", "≤ 1.4697")
            self.add("tinyshakespeare: seconds, median",
                     statistics.median(run["seconds"] for run in runs), "{:.1f}", "≤ 60")


def table_rows(parts):
    for part in parts:
        for row in part.get("result", {}).get("rows", []) if part["part"] == "table" else []:
            error = row["error_over_allowed"]
            yield (f"{row['kernel']:24} {row['cases']:6} {row['failed']:6} "
                   f"{'inf' if error is None else format(error, '.3g'):>9} "
                   f"{'yes' if row['same_bits_twice'] else 'NO':>7}  {row['worst_case']}")


def report_text(devices, parts, figures):
    yield from devices
    yield ""
    for part in parts:
        ended = {0: "passed", "skipped": "skipped"}.get(part["status"], f"FAILED ({part['status']})")
        why = f"  {part['command']}" if part["status"] == "skipped" else f" {part['seconds']:6} s"
        yield f"{part['part']:28} {ended:14}{why}"
    rows = list(table_rows(parts))
    if rows:
        yield ""
        yield f"{'kernel':24} {'cases':>6} {'failed':>6} {'of bound':>9} {'repeats':>7}  worst case"
        yield from rows
    if figures:
        yield ""
    for row in figures:
        met = {None: "", True: "met", False: "MISSED"}[row["met"]]
        yield f"{row['what']:64} {row['shown']:>12}  {row['target']:8} {met} {row['reason']}".rstrip()
    for part in parts:
        if "last_lines" in part:
            yield ""
            yield f"{part['part']} failed: {part['command']}"
            yield from (f"    {line}" for line in part["last_lines"])


def main():
    results, out = Path(sys.argv[1]), Path(sys.argv[2])
    files = sorted(results.glob("*.part"), key=lambda path: path.stat().st_mtime_ns)
    parts = [read_part(path) for path in files]
    devices = (results / "devices.txt").read_text(encoding="utf-8").splitlines()
    figures = Figures(parts)
    failed = [part["part"] for part in parts if part["status"] not in (0, "skipped")]
    for make in (figures.training, figures.kernels, figures.text):
        try:
            make()
        except (KeyError, TypeError, ZeroDivisionError) as error:
            print(f"gpu_report.py: {make.__name__}: a result is not what was expected: {error!r}",
                  file=sys.stderr)
            failed.append(f"figures of {make.__name__}")
    report = {"devices": devices, "failed": failed, "parts": parts, "figures": figures.rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu_check.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n",
                                        encoding="utf-8")
    text = "\n".join(report_text(devices, parts, figures.rows)) + "\n"
    (out / "gpu_check.txt").write_text(text, encoding="utf-8")
    print(text)
    print(f"{out}/gpu_check.json, {out}/gpu_check.txt")
    print(f"failed: {', '.join(failed)}" if failed else "nothing failed")
    return 1 if failed or not parts else 0


if __name__ == "__main__":
    sys.exit(main())
