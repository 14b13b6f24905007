"""The work of bench_train in PyTorch: a GPT-2 with accumulation, AdamW and a global-norm clip.

Random tokens; one JSON line with version, threads, flags and the median over cycles, sizes taking
turns. bf16 is autocast over f32 weights, as is the custom. Usage:
    python3 bench/peers/train_torch.py --model width384 --dtype bf16 --micro-batch 16 1
"""
import argparse
import contextlib
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

SIZES = {"gpt2": (12, 12, 768, 64, 50257, 32, [4]),
         "width384": (6, 6, 384, 256, 65, 16, [16, 1]),
         "width128": (4, 4, 128, 64, 65, 12, [12, 1])}


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.c_fc, self.c_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(self, x):
        b, t, c = x.shape
        q, k, v = (z.view(b, t, self.heads, c // self.heads).transpose(1, 2)
                   for z in self.c_attn(x).split(c, dim=2))
        if hasattr(F, "scaled_dot_product_attention"):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            score = q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5
            future = torch.ones(t, t, dtype=torch.bool, device=x.device).triu(1)
            y = score.masked_fill(future, float("-inf")).softmax(-1) @ v
        return self.c_proj(y.transpose(1, 2).reshape(b, t, c))

    def forward(self, x):
        x = x + self.attention(self.ln_1(x))
        return x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self, layers, heads, width, context, vocabulary):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="gpt2")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--micro-batch", type=int, nargs="+")
    parser.add_argument("--effective-batch", type=int)
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    layers, heads, width, context, vocabulary, effective, micros = SIZES[args.model]
    effective, micros = args.effective_batch or effective, args.micro_batch or micros

    model = Gpt(layers, heads, width, context, vocabulary)
    flags = {"lr": 1e-4, "weight_decay": 0.1}
    try:
        optimizer = torch.optim.AdamW(model.parameters(), **flags, fused=True)
        flags["fused"] = True
    except (TypeError, RuntimeError):
        optimizer = torch.optim.AdamW(model.parameters(), **flags)
    tokens = torch.randint(vocabulary, (effective, context))
    targets = torch.randint(vocabulary, (effective, context))
    autocast = (lambda: torch.autocast("cpu", dtype=torch.bfloat16)) if args.dtype == "bf16" \
        else contextlib.nullcontext

    def cycle(micro):
        for x, y in zip(tokens.split(micro), targets.split(micro)):
            with autocast():
                logits = model(x)
                loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="sum")
            (loss / targets.numel()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = {micro: [] for micro in micros}
    for round_ in range(args.cycles + 1):
        for micro in micros:
            start = time.perf_counter()
            cycle(micro)
            if round_:
                seconds[micro].append(time.perf_counter() - start)
    rows = [{"micro_batch": m, "seconds_per_cycle": statistics.median(s),
             "tokens_per_second": effective * context / statistics.median(s)}
            for m, s in seconds.items()]
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(),
                      "model": args.model, "dtype": args.dtype, "flags": flags, "rows": rows}))


if __name__ == "__main__":
    main()
