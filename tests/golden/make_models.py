#!/usr/bin/env python3
"""Writes model/ and rwkv7/rwkv7* beside this file: small models and operators computed in float64, step by step.

  pip install torch==2.13.0 safetensors numpy transformers==4.57.6
  tests/golden/make_models.py

The formulas are those of RWKV-4 (arXiv 2305.13048), of RWKV-7 (arXiv 2503.14456) and of the gated positional shift as docs/ describes
them, written as plainly as they can be: WKV as the quotient of its two sums over all earlier tokens, not
as a recurrence; the shift as a sum over lags; gradients by automatic differentiation. hf_rwkv4 is another
implementation of RWKV-4 altogether (transformers). README.md says what each file holds.
"""
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent / "model"
torch.set_default_dtype(torch.float64)
random = torch.Generator().manual_seed(20261125)


def draw(*shape, scale=1.0):
    """Normal numbers that float32 holds exactly."""
    return (torch.randn(*shape, generator=random) * scale).float().double()


def save(path, tensors):
    save_file({name: (t.detach().float() if t.is_floating_point() else t).contiguous()
               for name, t in tensors.items()}, path)


# ---- the operators ----------------------------------------------------------------------------------

def wkv(w, u, k, v, state):
    """w, u (C); k, v (B, T, C); state (P, Q), each (B, C), sums over what came before -> y, (P, Q)."""
    T = k.shape[1]
    out = []
    for t in range(T):
        top, bottom = state[0] * torch.exp(w * t), state[1] * torch.exp(w * t)
        for i in range(t):
            weight = torch.exp(w * (t - 1 - i) + k[:, i])
            top, bottom = top + weight * v[:, i], bottom + weight
        own = torch.exp(u + k[:, t])
        out.append((top + own * v[:, t]) / (bottom + own))
    top, bottom = state[0] * torch.exp(w * T), state[1] * torch.exp(w * T)
    for i in range(T):
        weight = torch.exp(w * (T - 1 - i) + k[:, i])
        top, bottom = top + weight * v[:, i], bottom + weight
    return torch.stack(out, 1), (top, bottom)


def state_rows(state):
    """(P, Q) as rows p, q, o with P = p e^o: at the scale at which q is 1."""
    top, bottom = state
    empty = bottom == 0
    scale = torch.where(empty, torch.ones_like(bottom), bottom)
    return torch.stack([top / scale, bottom / scale,
                        torch.where(empty, torch.full_like(bottom, -1e30), scale.log())], 1)


def features(form, t):
    if form == "exp":
        return torch.tensor([math.exp(-t / tau) for tau in (2, 8, 32, 128)])
    if form == "sin":
        angles = [2 * math.pi * t / period for period in (8, 32, 128, 512)]
        return torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    return torch.zeros(0)


def shift(a, history, t0, form, p):
    """a (B, T, C), history (B, H, C) oldest first, parameters by name -> a + g s."""
    B, T, C = a.shape
    H = history.shape[1]
    line = torch.cat([history, a], 1)
    out = []
    for t in range(T):
        now = line[:, H + t]
        if "conv" in p:
            s = torch.zeros(B, C)
            for j in range(p["conv"].shape[0]):
                m = 1 + (p["pos_u"][j] * features(form, t0 + t)).sum() if "pos_u" in p else 1
                s = s + m * p["conv"][j] * line[:, H + t - j]
        else:
            s = line[:, H + t - 1]
        if "gate_x" in p:
            g = torch.sigmoid(p["gate_x"] * now + p["gate_s"] * s + p["gate_b"])
        elif "gate_w" in p:
            g = torch.sigmoid(now @ p["gate_w"].T + p["gate_b"])
            g = g.repeat_interleave(C // g.shape[1], 1)
        elif "gate_d" in p:
            g = torch.sigmoid(now @ p["gate_d"].T @ p["gate_u"].T + p["gate_b"])
        else:
            g = 1
        out.append(now + g * s)
    return torch.stack(out, 1), line[:, T:]


def shift_parameters(C, gs, prefix=""):
    K, form, gate = gs["K"], gs.get("pos", "none"), gs.get("gate", "diag")
    p = {}
    if not gs.get("fixed"):
        p["conv"] = draw(K, C, scale=0.3)
        if form != "none":
            p["pos_u"] = draw(K, len(features(form, 0)), scale=0.4)
    if gate == "diag":
        p |= {"gate_x": draw(C), "gate_s": draw(C), "gate_b": draw(C) + 1}
    elif gate in ("scalar", "group"):
        G = 1 if gate == "scalar" else gs["groups"]
        p |= {"gate_w": draw(G, C, scale=0.5), "gate_b": draw(G)}
    elif gate == "lowrank":
        p |= {"gate_d": draw(gs["rank"], C, scale=0.5), "gate_u": draw(C, gs["rank"], scale=0.5),
              "gate_b": draw(C)}
    return {prefix + name: value.float().double() for name, value in p.items()}


def part(parameters, prefix):
    return {name[len(prefix):]: t for name, t in parameters.items() if name.startswith(prefix)}


# ---- the model --------------------------------------------------------------------------------------

def norm(x, weight, bias):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


class Model:
    def __init__(self, config):
        self.config = config
        V, C, L, F = config["V"], config["C"], config["L"], config.get("F", 4 * config["C"])
        A = config.get("A", C)
        p = {"emb.weight": draw(V, C), "head.weight": draw(V, C, scale=0.5)}

        def add_norm(name):
            p[name + ".weight"], p[name + ".bias"] = 1 + draw(C, scale=0.2), draw(C, scale=0.2)
        add_norm("ln_out")
        add_norm("blocks.0.ln0")
        for i in range(L):
            at = f"blocks.{i}."
            add_norm(at + "ln1")
            add_norm(at + "ln2")
            p[at + "att.time_decay"], p[at + "att.time_first"] = draw(A), draw(A)
            for name in "kvr":
                p[at + f"att.time_mix_{name}"] = torch.rand(1, 1, C, generator=random)
            for name in ("key", "value", "receptance"):
                p[at + f"att.{name}.weight"] = draw(A, C, scale=0.5)
            p[at + "att.output.weight"] = draw(C, A, scale=0.5)
            for name in "kr":
                p[at + f"ffn.time_mix_{name}"] = torch.rand(1, 1, C, generator=random)
            p[at + "ffn.key.weight"] = draw(F, C, scale=0.5)
            p[at + "ffn.receptance.weight"] = draw(C, C, scale=0.5)
            p[at + "ffn.value.weight"] = draw(C, F, scale=0.3)
            for site in config.get("where", ""):
                p |= shift_parameters(C, config["gs"], at + ("att." if site == "a" else "ffn.") + "shift.")
        self.p = {name: t.float().double().requires_grad_() for name, t in p.items()}

    def start(self, B):
        c = self.config
        H = (1 if c["gs"].get("fixed") else c["gs"]["K"] - 1) if "gs" in c else 0
        A = c.get("A", c["C"])
        return {"t": 0, "layers": [
            {site: {"x": torch.zeros(B, c["C"]), "h": torch.zeros(B, H, c["C"])} for site in ("att", "ffn")}
            | {"wkv": (torch.zeros(B, A), torch.zeros(B, A))} for _ in range(c["L"])]}

    def enhanced(self, a, prefix, one, t0):
        shifted = part(self.p, prefix + "shift.")
        if shifted:
            a, one["h"] = shift(a, one["h"], t0, self.config["gs"].get("pos", "none"), shifted)
        before = torch.cat([one["x"].unsqueeze(1), a[:, :-1]], 1)
        one["x"] = a[:, -1]

        def mix(name, share_of=lambda share: share):
            share = share_of(self.p[prefix + name])
            return a * share + before * (1 - share)
        return mix

    def forward(self, idx, state):
        p = self.p
        x = norm(p["emb.weight"][idx], p["blocks.0.ln0.weight"], p["blocks.0.ln0.bias"])
        for i, layer in enumerate(state["layers"]):
            at = f"blocks.{i}."
            mix = self.enhanced(norm(x, p[at + "ln1.weight"], p[at + "ln1.bias"]), at + "att.",
                                layer["att"], state["t"])
            k = mix("time_mix_k") @ p[at + "att.key.weight"].T
            v = mix("time_mix_v") @ p[at + "att.value.weight"].T
            r = torch.sigmoid(mix("time_mix_r") @ p[at + "att.receptance.weight"].T)
            y, layer["wkv"] = wkv(-torch.exp(p[at + "att.time_decay"]), p[at + "att.time_first"], k, v,
                                  layer["wkv"])
            x = x + (r * y) @ p[at + "att.output.weight"].T
            mix = self.enhanced(norm(x, p[at + "ln2.weight"], p[at + "ln2.bias"]), at + "ffn.",
                                layer["ffn"], state["t"])
            h = torch.relu(mix("time_mix_k") @ p[at + "ffn.key.weight"].T) ** 2
            r = torch.sigmoid(mix("time_mix_r") @ p[at + "ffn.receptance.weight"].T)
            x = x + r * (h @ p[at + "ffn.value.weight"].T)
        state["t"] += idx.shape[1]
        return norm(x, p["ln_out.weight"], p["ln_out.bias"]) @ p["head.weight"].T


def state_tensors(state, prefix):
    out = {}
    for i, layer in enumerate(state["layers"]):
        for site in ("att", "ffn"):
            out[f"{prefix}.{i}.{site}.x"] = layer[site]["x"].unsqueeze(1)
            if layer[site]["h"].shape[1] > 0:
                out[f"{prefix}.{i}.{site}.h"] = layer[site]["h"]
        wkv = layer["wkv"]
        out[f"{prefix}.{i}.att.wkv"] = wkv if torch.is_tensor(wkv) else state_rows(wkv)
    return out


# ---- RWKV-7 -----------------------------------------------------------------------------------------

def heads_step(S, r, d, k, v, kappa, a):
    """One token of all heads, each (B, H, N), S (B, H, N, N) by value and key -> y, S."""
    N = S.shape[-1]
    change = torch.diag_embed(d) - kappa.unsqueeze(-1) * (kappa * a).unsqueeze(-2)
    S = S @ change + v.unsqueeze(-1) * k.unsqueeze(-2)
    return (S @ r.unsqueeze(-1)).reshape(*r.shape[:2], N), S


class Rwkv7(Model):
    def __init__(self, config):
        self.config = config
        V, C, L, N, F = (config[key] for key in "VCLNF")
        p = {"emb.weight": draw(V, C), "head.weight": draw(V, C, scale=0.5)}

        def add_norm(name):
            p[name + ".weight"], p[name + ".bias"] = 1 + draw(C, scale=0.2), draw(C, scale=0.2)
        add_norm("ln_out")
        add_norm("blocks.0.ln0")
        for i in range(L):
            at = f"blocks.{i}."
            add_norm(at + "ln1")
            add_norm(at + "ln2")
            add_norm(at + "att.ln_x")
            for name in "rwkvag":
                p[at + f"att.x_{name}"] = torch.rand(1, 1, C, generator=random)
            for name, rank in config["ranks"].items():
                letter = {"decay": "w", "iclr": "a", "value": "v", "gate": "g"}[name]
                if letter == "v" and i == 0:
                    continue
                if letter != "g":
                    p[at + f"att.{letter}0"] = draw(1, 1, C)
                p[at + f"att.{letter}1"] = draw(C, rank, scale=0.5)
                p[at + f"att.{letter}2"] = draw(rank, C, scale=0.5)
            p[at + "att.k_k"], p[at + "att.k_a"] = draw(1, 1, C), 1 + draw(1, 1, C, scale=0.3)
            p[at + "att.r_k"] = draw(C // N, N, scale=0.5)
            for name in ("key", "value", "receptance", "output"):
                p[at + f"att.{name}.weight"] = draw(C, C, scale=0.4)
            p[at + "ffn.x_k"] = torch.rand(1, 1, C, generator=random)
            p[at + "ffn.key.weight"] = draw(F, C, scale=0.5)
            p[at + "ffn.value.weight"] = draw(C, F, scale=0.3)
            for site in config.get("where", ""):
                p |= shift_parameters(C, config["gs"], at + ("att." if site == "a" else "ffn.") + "shift.")
        self.p = {name: t.float().double().requires_grad_() for name, t in p.items()}

    def start(self, B):
        c, state = self.config, super().start(B)
        for layer in state["layers"]:
            layer["wkv"] = torch.zeros(B, c["C"] // c["N"], c["N"], c["N"])
        return state

    def enhanced(self, a, prefix, one, t0):
        mix = super().enhanced(a, prefix, one, t0)
        # Official mixes are shares of the token before; the inherited ones of the token itself.
        return lambda name: mix(name, lambda share: 1 - share)

    def time_mix(self, mix, at, layer, v_first):
        c, p = self.config, self.p
        w = lambda name: p[at + "att." + name]
        r, k, v = (mix("x_" + n) @ w(full + ".weight").T
                   for n, full in (("r", "receptance"), ("k", "key"), ("v", "value")))
        d = torch.exp(-math.exp(-0.5) * torch.sigmoid(w("w0") + torch.tanh(mix("x_w") @ w("w1")) @ w("w2")))
        a = torch.sigmoid(w("a0") + mix("x_a") @ w("a1") @ w("a2"))
        g = torch.sigmoid(mix("x_g") @ w("g1")) @ w("g2")
        if v_first is None:
            v_first = v
        else:
            v = v + (v_first - v) * torch.sigmoid(w("v0") + mix("x_v") @ w("v1") @ w("v2"))
        by_head = lambda x: x.reshape(*x.shape[:2], -1, c["N"])
        kappa = by_head(k * w("k_k"))
        kappa = kappa / kappa.norm(dim=-1, keepdim=True).clamp_min(1e-12)
        k = k * (1 + (a - 1) * w("k_a"))
        r, d, k, v, a = (by_head(x) for x in (r, d, k, v, a))
        out = []
        for t in range(r.shape[1]):
            y, layer["wkv"] = heads_step(layer["wkv"], *(x[:, t] for x in (r, d, k, v, kappa, a)))
            y = (y - y.mean(-1, keepdim=True)) / torch.sqrt(y.var(-1, keepdim=True, unbiased=False) + 64e-5)
            y = y.flatten(1) * w("ln_x.weight") + w("ln_x.bias")
            out.append(y + ((r[:, t] * k[:, t] * w("r_k")).sum(-1, keepdim=True) * v[:, t]).flatten(1))
        return (torch.stack(out, 1) * g) @ w("output.weight").T, v_first

    def forward(self, idx, state):
        p = self.p
        x = norm(p["emb.weight"][idx], p["blocks.0.ln0.weight"], p["blocks.0.ln0.bias"])
        v_first = None
        for i, layer in enumerate(state["layers"]):
            at = f"blocks.{i}."
            mix = self.enhanced(norm(x, p[at + "ln1.weight"], p[at + "ln1.bias"]), at + "att.",
                                layer["att"], state["t"])
            y, v_first = self.time_mix(mix, at, layer, v_first)
            x = x + y
            mix = self.enhanced(norm(x, p[at + "ln2.weight"], p[at + "ln2.bias"]), at + "ffn.",
                                layer["ffn"], state["t"])
            x = x + torch.relu(mix("x_k") @ p[at + "ffn.key.weight"].T) ** 2 @ p[at + "ffn.value.weight"].T
        state["t"] += idx.shape[1]
        return norm(x, p["ln_out.weight"], p["ln_out.bias"]) @ p["head.weight"].T


def make_model(name, config, B=2, T=12, split=5, kind=Model, folder=HERE):
    model = kind(config)
    idx = torch.randint(0, config["V"], (B, T), generator=random)
    targets = torch.randint(0, config["V"], (B, T), generator=random)
    state = model.start(B)
    logits = model.forward(idx, state)
    loss = torch.nn.functional.cross_entropy(logits.reshape(B * T, -1), targets.reshape(-1))
    loss.backward()
    io = {"idx": idx, "targets": targets, "logits": logits} | state_tensors(state, "state_end")
    walking, steps = model.start(B), []
    with torch.no_grad():
        for t in range(T):
            steps.append(model.forward(idx[:, t:t + 1], walking))
            if t + 1 == split:
                io |= state_tensors(walking, "state_mid")
    io["step_logits"] = torch.cat(steps, 1)
    away = (io["step_logits"] - logits).abs().max().item()
    assert away < 1e-10, (name, away)
    save(folder / f"{name}.weights.safetensors", model.p)
    save(folder / f"{name}.grads.safetensors", {n: t.grad for n, t in model.p.items()})
    save(folder / f"{name}.io.safetensors", io)
    (folder / f"{name}.json").write_text(json.dumps(
        {"config": config, "loss": loss.item(), "split": split,
         "parameters": sum(t.numel() for t in model.p.values())}, indent=1) + "\n")


# ---- the operators alone ----------------------------------------------------------------------------

def make_wkv(B=2, T=11, C=8):
    """Keys up to +-90, a state that came before."""
    w, u = -torch.exp(draw(C)), draw(C)
    k, v = draw(B, T, C, scale=30).clamp(-90, 90), draw(B, T, C)
    state_in = torch.stack([draw(B, C), draw(B, C).abs() + 0.5, draw(B, C, scale=5)], 1)
    w, u, k, v, state_in = (t.float().double() for t in (w, u, k, v, state_in))
    for t in (w, u, k, v):
        t.requires_grad_()
    scale = torch.exp(state_in[:, 2])
    y, end = wkv(w, u, k, v, (state_in[:, 0] * scale, state_in[:, 1] * scale))
    grad_y = draw(B, T, C)
    y.backward(grad_y)
    save(HERE / "wkv_op.safetensors",
         {"w": w, "u": u, "k": k, "v": v, "state_in": state_in, "y": y, "state_out": state_rows(end),
          "grad_y": grad_y, "grad_w": w.grad, "grad_u": u.grad, "grad_k": k.grad, "grad_v": v.grad})


def make_shifts(B=2, T=6, C=8, t0=5):
    cases = {
        "diag": {"K": 4}, "diag_exp": {"K": 4, "pos": "exp"}, "diag_sin": {"K": 4, "pos": "sin"},
        "lowrank": {"K": 4, "gate": "lowrank", "rank": 3}, "scalar": {"K": 4, "gate": "scalar"},
        "group": {"K": 4, "gate": "group", "groups": 2}, "convonly": {"K": 4, "gate": "one"},
        "convonly_exp_K8": {"K": 8, "gate": "one", "pos": "exp"},
        "gateonly": {"K": 4, "fixed": True}, "diag_K1": {"K": 1, "pos": "exp"},
        "diag_K2": {"K": 2}, "diag_sin_K7": {"K": 7, "pos": "sin"}}
    index = {}
    for name, gs in cases.items():
        index[name] = gs | {"pos": gs.get("pos", "none"), "gate": gs.get("gate", "diag"), "t0": t0}
        p = {n: t.requires_grad_() for n, t in shift_parameters(C, gs).items()}
        a = draw(B, T, C).requires_grad_()
        history = draw(B, 1 if gs.get("fixed") else gs["K"] - 1, C)
        out, end = shift(a, history, t0, gs.get("pos", "none"), p)
        grad = draw(B, T, C)
        out.backward(grad)
        tensors = {"a": a, "hist_in": history, "out": out, "hist_out": end, "grad_out": grad,
                   "grad_a": a.grad}
        tensors |= {"p." + n: t for n, t in p.items()} | {"grad." + n: t.grad for n, t in p.items()}
        save(HERE / f"shift_op_{name}.safetensors", tensors)
    (HERE / "shift_op.json").write_text(json.dumps(index, indent=1) + "\n")


def make_hf(V=17, C=8, L=2, B=2, T=12):
    """transformers' RwkvForCausalLM with its parameters under the official names."""
    import transformers
    from transformers import RwkvConfig, RwkvForCausalLM

    torch.manual_seed(3)
    config = RwkvConfig(vocab_size=V, hidden_size=C, num_hidden_layers=L, attention_hidden_size=C,
                        intermediate_size=4 * C, context_length=64, rescale_every=0)
    model = RwkvForCausalLM(config).float().eval()
    with torch.no_grad():
        for t in model.parameters():
            t.copy_(draw(*t.shape, scale=0.5).float())
    names = [("rwkv.embeddings.", "emb."), ("rwkv.ln_out.", "ln_out."), ("rwkv.blocks.", "blocks."),
             (".pre_ln.", ".ln0."), (".attention.", ".att."), (".feed_forward.", ".ffn."),
             ("time_mix_key", "time_mix_k"), ("time_mix_value", "time_mix_v"),
             ("time_mix_receptance", "time_mix_r")]
    weights = {}
    for name, tensor in model.state_dict().items():
        for theirs, official in names:
            name = name.replace(theirs, official)
        weights[name] = tensor.float().clone().contiguous()
    idx = torch.randint(0, V, (B, T), generator=random)
    with torch.no_grad():
        logits = model(idx, use_cache=False).logits
    save(HERE / "hf_rwkv4.safetensors", weights)
    torch.save(weights, HERE / "hf_rwkv4.pth")
    save(HERE / "hf_rwkv4.io.safetensors", {"idx": idx, "logits": logits})
    (HERE / "hf_rwkv4.json").write_text(json.dumps(
        {"source": f"transformers {transformers.__version__} RwkvForCausalLM, CPU, float32"}) + "\n")


def main():
    HERE.mkdir(exist_ok=True)
    base = {"V": 17, "C": 8, "L": 2}
    gs = lambda **more: base | {"where": "af", "gs": {"K": 4} | more}
    make_model("rwkv4", base)
    make_model("rwkv4_wide", base | {"L": 1, "A": 12, "F": 20})
    make_model("enhanced", gs(pos="exp"))
    make_model("nopos", gs())
    make_model("sin", gs(pos="sin", K=3))
    make_model("convonly", gs(gate="one", pos="exp"))
    make_model("gateonly", gs(fixed=True))
    make_model("lowrank", gs(gate="lowrank", rank=3))
    make_model("group_att", base | {"L": 1, "where": "a", "gs": {"K": 2, "gate": "group", "groups": 4}})
    make_model("scalar_ffn", base | {"L": 1, "where": "f", "gs": {"K": 1, "gate": "scalar", "pos": "exp"}})
    make_wkv()
    make_shifts()
    make_hf()
    seven = Path(HERE.parent / "rwkv7")
    seven.mkdir(exist_ok=True)
    small = {"V": 13, "C": 16, "L": 2, "N": 8, "F": 24, "ranks": {"decay": 3, "iclr": 4, "value": 2, "gate": 5}}
    for name, config in (("rwkv7", small), ("rwkv7_three_blocks", small | {"L": 3, "N": 16}),
                         ("rwkv7_enhanced", small | {"where": "af", "gs": {"K": 4, "pos": "exp"}})):
        make_model(name, config, T=18, split=7, kind=Rwkv7, folder=seven)


main()
