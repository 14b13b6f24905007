#!/usr/bin/env python3
"""Writes the golden files beside this script: what PyTorch computes, in f64, for a small GPT-2 and
for each optimizer. Needs only torch; README.md beside it says what the files hold."""
import json
import math
import struct
from pathlib import Path

import torch
import torch.nn.functional as F

LAYERS, HEADS, WIDTH, CONTEXT, VOCABULARY = 2, 3, 24, 16, 61
SEQUENCES = 6
VALID = [16, 11, 7, 16, 1, 4]  # targets of each ragged sequence; the rest is padding
RAGGED_SPLIT = [1, 3, 2]  # sequences in each micro-batch
IGNORE = -100
ADAMW = dict(lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
ADAMW_STEPS = 10
TRAJECTORY_STEPS = 20
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "sgd_momentum": (torch.optim.SGD, dict(lr=0.05, momentum=0.9)),
    "sgd_nesterov": (
        torch.optim.SGD, dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)),
    "adam": (torch.optim.Adam, dict(lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)),
    "adamw": (torch.optim.AdamW, dict(lr=0.02, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)),
}
DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.int32: "I32"}


def save(name, tensors, **metadata):
    """The safetensors format: u64 length of the header, header in JSON, the tensors' bytes."""
    metadata["torch"] = torch.__version__
    header = {"__metadata__": {key: value if isinstance(value, str) else json.dumps(value)
                               for key, value in metadata.items()}}
    data = b""
    for key, tensor in sorted(tensors.items()):
        block = tensor.detach().contiguous().numpy().tobytes()
        header[key] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape),
                       "data_offsets": [len(data), len(data) + len(block)]}
        data += block
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = Path(__file__).with_name(name)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    print(f"{path.name}: {path.stat().st_size} bytes, {len(tensors)} tensors")


def draw_weights():
    """Hugging Face's names and shapes; Conv1D weights are [in, out]. Values fit f32 exactly."""
    shapes = {"transformer.wte.weight": [VOCABULARY, WIDTH],
              "transformer.wpe.weight": [CONTEXT, WIDTH]}
    for layer in range(LAYERS):
        block = {
            "ln_1.weight": [WIDTH], "ln_1.bias": [WIDTH],
            "attn.c_attn.weight": [WIDTH, 3 * WIDTH], "attn.c_attn.bias": [3 * WIDTH],
            "attn.c_proj.weight": [WIDTH, WIDTH], "attn.c_proj.bias": [WIDTH],
            "ln_2.weight": [WIDTH], "ln_2.bias": [WIDTH],
            "mlp.c_fc.weight": [WIDTH, 4 * WIDTH], "mlp.c_fc.bias": [4 * WIDTH],
            "mlp.c_proj.weight": [4 * WIDTH, WIDTH], "mlp.c_proj.bias": [WIDTH],
        }
        shapes.update({f"transformer.h.{layer}.{name}": shape for name, shape in block.items()})
    shapes.update({"transformer.ln_f.weight": [WIDTH], "transformer.ln_f.bias": [WIDTH]})
    weights = {}
    for name, shape in shapes.items():
        weights[name] = 0.08 * torch.randn(shape, dtype=torch.float32)
        if name.split(".")[-2].startswith("ln_") and name.endswith("weight"):
            weights[name] += 1
    return weights


def layer_norm(x, w, name):
    return F.layer_norm(x, [WIDTH], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)


def conv1d(x, w, name):
    return x @ w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu_new(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention(x, w, name):
    batch, time, width = x.shape
    heads = conv1d(x, w, f"{name}.c_attn").view(batch, time, 3, HEADS, width // HEADS)
    q, k, v = heads.permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) / math.sqrt(width // HEADS)
    future = torch.ones(time, time, dtype=torch.bool).triu(1)
    y = scores.masked_fill(future, -math.inf).softmax(-1) @ v
    return conv1d(y.transpose(1, 2).reshape(batch, time, width), w, f"{name}.c_proj")


def gpt2(tokens, w):
    """Logits [B, T, V]; pre-norm blocks, learned positions, tied head, no dropout."""
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][: tokens.shape[1]]
    for layer in range(LAYERS):
        block = f"transformer.h.{layer}"
        x = x + attention(layer_norm(x, w, f"{block}.ln_1"), w, f"{block}.attn")
        hidden = gelu_new(conv1d(layer_norm(x, w, f"{block}.ln_2"), w, f"{block}.mlp.c_fc"))
        x = x + conv1d(hidden, w, f"{block}.mlp.c_proj")
    return layer_norm(x, w, "transformer.ln_f") @ w["transformer.wte.weight"].T


def cross_entropy_sum(logits, targets):
    return F.cross_entropy(logits.reshape(-1, VOCABULARY), targets.reshape(-1).long(),
                           ignore_index=IGNORE, reduction="sum")


def accumulate(w, tokens, targets, split):
    """Adds the gradient of (sum over valid) / (all valid) micro-batch by micro-batch; the loss."""
    count = (targets != IGNORE).sum()
    loss = 0.0
    for t, u in zip(tokens.split(split), targets.split(split)):
        part = cross_entropy_sum(gpt2(t.long(), w), u) / count
        part.backward()
        loss += part.item()
    return loss


def leaves(weights):
    return {name: value.double().requires_grad_() for name, value in weights.items()}


def write_gpt(name, weights, tokens, targets, split):
    w = leaves(weights)
    out = {"tokens": tokens, "targets": targets, "logits": gpt2(tokens.long(), w)}
    loss = accumulate(w, tokens, targets, split)
    out["loss"] = torch.tensor([loss], dtype=torch.float64)
    out.update({f"gradient.{key}": value.grad.clone() for key, value in w.items()})

    # The split is only a way to compute: the whole batch at once gives the same.
    whole = leaves(weights)
    assert abs(accumulate(whole, tokens, targets, SEQUENCES) - loss) < 1e-12
    assert all((whole[key].grad - w[key].grad).abs().max() < 1e-12 for key in w)

    optimizer = torch.optim.AdamW(w.values(), **ADAMW)
    losses = []
    for _ in range(ADAMW_STEPS + 1):
        optimizer.zero_grad()
        losses.append(accumulate(w, tokens, targets, split))
        optimizer.step()
    out["adamw_losses"] = torch.tensor(losses, dtype=torch.float64)
    save(name, out, adamw=ADAMW, split=split, count=int((targets != IGNORE).sum()))


def write_optimizers():
    """Every optimizer walks from the same start through the same gradients, those of a noisy
    quadratic along a plain descent. The last element's gradient is always zero."""
    start = torch.randn(12).double()
    curvature, goal = torch.rand(12) * 3 + 0.1, torch.randn(12)
    gradients, w = [], start.float()
    for _ in range(TRAJECTORY_STEPS):
        gradient = curvature * (w - goal) + 0.3 * torch.randn(12)
        gradient[-1] = 0
        gradients.append(gradient)
        w = w - 0.1 * gradient
    out = {"start": start.float(), "gradients": torch.stack(gradients)}
    for name, (kind, options) in OPTIMIZERS.items():
        w = start.clone().requires_grad_()
        optimizer = kind([w], **options)
        trajectory = []
        for gradient in gradients:
            w.grad = gradient.double()
            optimizer.step()
            trajectory.append(w.detach().clone())
        out[name] = torch.stack(trajectory)
    metadata = {name: options for name, (_, options) in OPTIMIZERS.items()}
    save("optimizers.safetensors", out, **metadata)


def main():
    torch.manual_seed(20240229)
    torch.set_num_threads(1)
    weights = draw_weights()
    config = dict(layers=LAYERS, heads=HEADS, width=WIDTH, context=CONTEXT, vocabulary=VOCABULARY)
    save("gpt2_weights.safetensors", weights, **config)
    tokens = torch.randint(VOCABULARY, (SEQUENCES, CONTEXT + 1), dtype=torch.int32)
    inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    write_gpt("gpt2_full.safetensors", weights, inputs, targets, [SEQUENCES])
    for row, valid in enumerate(VALID):
        inputs[row, valid:] = 0
        targets[row, valid:] = IGNORE
    write_gpt("gpt2_ragged.safetensors", weights, inputs, targets, RAGGED_SPLIT)
    write_optimizers()


if __name__ == "__main__":
    main()
