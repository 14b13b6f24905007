"""The work of bench_train in PyTorch: a GPT-2 with accumulation, AdamW and a global-norm clip.

Random tokens; one JSON line with versions, threads, flags and the median over cycles, sizes taking
turns. bf16 is autocast over f32 weights, as is the custom. On a GPU: fused AdamW, flash attention,
torch.compile unless --eager, and the ceilings that PyTorch's own product and copy reach. Usage:
    python3 bench/peers/train_torch.py --model width384 --dtype bf16 --micro-batch 16 1
    python3 bench/peers/train_torch.py --device cuda --dtype bf16        # GPT-2 124M
    python3 bench/peers/train_torch.py --device cuda --model width128 --eager
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
# What bench_train does on a GPU: a vocabulary padded to a multiple of 128, sizes that fill it.
GPU_SIZES = {**SIZES, "gpt2": (12, 12, 768, 1024, 50304, 512, [64, 32, 8, 2])}


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
        # GPT-2's own. With PyTorch's embeddings of deviation 1, to which the head is tied, softmax
        # has denormal probabilities, and cycles become nine times slower within six steps.
        for name, one in self.named_parameters():
            if one.ndim == 2:
                residual = name.endswith(("c_proj.weight", "c_out.weight"))
                nn.init.normal_(one, std=0.02 / (2 * layers) ** 0.5 if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(one)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(call, device, repeats=7):
    """The median of runs of ten calls, after three that warm up."""
    for _ in range(3):
        call()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            call()
        synchronize(device)
        seconds.append((time.perf_counter() - start) / 10)
    return statistics.median(seconds)


def ceilings(device, n):
    """A bf16 product of n x n matrices and a copy of 8·n² bytes, random data."""
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    x = torch.randn(n, 2 * n, device=device)
    y = torch.empty_like(x)
    return {"matmul_n": n, "matmul_tflops": 2 * n ** 3 / seconds_of(lambda: a @ b, device) * 1e-12,
            "copy_gb_per_second": 2 * x.nbytes / seconds_of(lambda: y.copy_(x), device) * 1e-9}


def adamw(model):
    flags = {"lr": 1e-4, "weight_decay": 0.1}
    try:
        return torch.optim.AdamW(model.parameters(), **flags, fused=True), {**flags, "fused": True}
    except (TypeError, RuntimeError):
        return torch.optim.AdamW(model.parameters(), **flags), flags


def versions(device):
    found = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device}
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda,
                  "cudnn": torch.backends.cudnn.version()}
    return found


def read_flags():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SIZES, default="gpt2")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--micro-batch", type=int, nargs="+")
    parser.add_argument("--effective-batch", type=int)
    parser.add_argument("--context", type=int)
    parser.add_argument("--vocabulary", type=int)
    parser.add_argument("--cycles", type=int, default=5)
    parser.add_argument("--turns", action="store_true",
                        help="say `ready` and wait for a line before each cycle (compare.py)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--tf32", action="store_true", help="products of f32 on tensor cores")
    parser.add_argument("--eager", action="store_true", help="no torch.compile on a GPU")
    parser.add_argument("--compile-mode", default="default",
                        help="of torch.compile: default, reduce-overhead, max-autotune, max-autotune-no-cudagraphs")
    parser.add_argument("--ceiling-size", type=int, default=8192,
                        help="of the product that is timed on a GPU; 0: none")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "train_torch.py: no GPU that PyTorch can use is here; try --device cpu\n")
    return args


def main():
    args = read_flags()
    device, gpu = args.device, args.device == "cuda"
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    if args.tf32:
        torch.set_float32_matmul_precision("high")
    layers, heads, width, context, vocabulary, effective, micros = \
        (GPU_SIZES if gpu else SIZES)[args.model]
    # FLOPs count without what pads the vocabulary.
    useful_vocabulary = min(SIZES[args.model][4], args.vocabulary or vocabulary)
    context, vocabulary = args.context or context, args.vocabulary or vocabulary
    effective, micros = args.effective_batch or effective, args.micro_batch or micros

    model = Gpt(layers, heads, width, context, vocabulary).to(device)
    optimizer, flags = adamw(model)
    flags |= {"tf32": args.tf32, "compiled": args.compile_mode if gpu and not args.eager else None}
    tokens = torch.randint(useful_vocabulary, (effective, context)).to(device)
    targets = torch.randint(useful_vocabulary, (effective, context)).to(device)
    autocast = (lambda: torch.autocast(device, dtype=torch.bfloat16)) if args.dtype == "bf16" \
        else contextlib.nullcontext

    def loss_of(x, y):
        with autocast():
            logits = model(x)
            return F.cross_entropy(logits.float().flatten(0, 1), y.flatten(), reduction="sum")

    if gpu and not args.eager:
        # Each micro-batch size is compiled by itself.
        loss_of = torch.compile(loss_of, mode=args.compile_mode, dynamic=False)

    def cycle(micro):
        for x, y in zip(tokens.split(micro), targets.split(micro)):
            (loss_of(x, y) / targets.numel()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)

    seconds = {micro: [] for micro in micros}
    for round_ in range(args.cycles + 1):
        for micro in micros:
            if args.turns:
                print("ready", flush=True)
                input()
            start = time.perf_counter()
            cycle(micro)
            if round_:
                seconds[micro].append(time.perf_counter() - start)
    flops = effective * context * 6 * (
        layers * 12 * width ** 2 + useful_vocabulary * width + layers * width * context)
    middle = {m: statistics.median(s) for m, s in seconds.items()}
    rows = [{"micro_batch": m, "seconds_per_cycle": s, "seconds_by_cycle": seconds[m],
             "over_first": s / middle[micros[0]],
             "tokens_per_second": effective * context / s, "gflops": flops / s * 1e-9}
            for m, s in middle.items()]
    result = {**versions(device), "model": args.model, "dtype": args.dtype, "context": context,
              "vocabulary": vocabulary, "effective_batch": effective, "flags": flags, "rows": rows}
    if gpu:
        result["peak_bytes"] = torch.cuda.max_memory_allocated()
        if args.ceiling_size:
            result["ceilings"] = ceilings(device, args.ceiling_size)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
