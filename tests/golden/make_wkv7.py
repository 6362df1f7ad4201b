#!/usr/bin/env python3
"""Writes rwkv7/wkv7_op*.safetensors beside this file: the recurrence of RWKV-7 alone, in float64.

  pip install torch==2.13.0 safetensors numpy
  tests/golden/make_wkv7.py

One head at a time, a step is one product with a matrix, S <- S (diag(d) + z b^T) + v k^T, and gradients
come by automatic differentiation. README.md says what the files hold.
"""
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent / "rwkv7"
torch.set_default_dtype(torch.float64)
random = torch.Generator().manual_seed(20261128)


def draw(*shape, scale=1.0, shift=0.0):
    """Normal numbers that float32 holds exactly."""
    return (torch.randn(*shape, generator=random) * scale + shift).float().double()


def head(r, d, k, v, z, b, state):
    """(T, N) each, state (N, N) by value and key -> y (T, N), state."""
    out = []
    for t in range(r.shape[0]):
        change = torch.diag(d[t]) + torch.outer(z[t], b[t])
        state = state @ change + torch.outer(v[t], k[t])
        out.append(state @ r[t])
    return torch.stack(out), state


def make(name, B, T, H, N, decay):
    """`decay` is the mean of w; d = exp(-e^-0.5 sigmoid(w))."""
    kappa = draw(B, T, H, N)
    kappa = (kappa / kappa.norm(dim=-1, keepdim=True)).float().double()
    leaves = {"r": draw(B, T, H, N), "w": draw(B, T, H, N, scale=1.5, shift=decay),
              "k": draw(B, T, H, N, scale=0.5), "v": draw(B, T, H, N), "z": -kappa,
              "b": (kappa * torch.sigmoid(draw(B, T, H, N))).float().double(),
              "state_in": draw(B, H, N, N, scale=0.5)}
    for leaf in leaves.values():
        leaf.requires_grad_()
    r, w, k, v, z, b, state_in = leaves.values()
    d = torch.exp(-math.exp(-0.5) * torch.sigmoid(w))
    heads = [[head(*(x[i, :, h] for x in (r, d, k, v, z, b)), state_in[i, h]) for h in range(H)]
             for i in range(B)]
    y = torch.stack([torch.stack([one[0] for one in row], 1) for row in heads])
    state_out = torch.stack([torch.stack([one[1] for one in row]) for row in heads])
    grads = {"grad_y": draw(B, T, H, N), "grad_state_out": draw(B, H, N, N, scale=0.5)}
    ((y * grads["grad_y"]).sum() + (state_out * grads["grad_state_out"]).sum()).backward()
    tensors = leaves | {"y": y, "state_out": state_out} | grads
    tensors |= {"grad_" + key: leaf.grad for key, leaf in leaves.items()}
    save_file({key: t.detach().float().contiguous() for key, t in tensors.items()},
              HERE / f"{name}.safetensors")


def main():
    HERE.mkdir(exist_ok=True)
    make("wkv7_op", B=2, T=19, H=2, N=8, decay=0)
    make("wkv7_op_low_decay", B=1, T=35, H=1, N=8, decay=9)
    make("wkv7_op_n24", B=1, T=17, H=1, N=24, decay=-2)


main()
