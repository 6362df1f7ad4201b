#!/usr/bin/env python3
"""Holds adapters to the programs that write and read them: RWKV-PEFT's layouts through torch, its merging formula, and
the package rwkv, which runs what is merged and what begins with a tuned state.

    python3 tests/peers/peer_adapters.py --work DIR --model FILE.pth [FILE.pth ...] [--program build/bin/rwkvx] [--lora FILE]

Not part of the default tests: it installs torch and rwkv from PyPI into DIR. Models: small official .pth of bytes, RWKV-4 or
RWKV-7. The adapters are random; --lora is one that rwkvx trained for the first model. Where DIR/venv exists, it is used.
"""
import argparse
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import peer_formats

NEEDED = ["torch", "numpy", "rwkv==0.8.32"]
TEXT = '"in the'
ALPHA, RANK = 24, 6
LIMIT = 2e-4  # largest difference of log probabilities


# Within the environment.

def is_rwkv7(weights):
    return any(name.endswith(".att.r_k") for name in weights)


def make_lora(model, out, dtype, parts=("att.", "ffn.")):
    """What RWKV-PEFT's training saves: pairs (rwkvt/peft/rwkvLinear.py), and the layer norms that it trains beside them
    (train_parts "time", "ln" in rwkvt/args_type.py, saved by rwkvt/lightning_train/trainer.py)."""
    import torch
    torch.manual_seed(1)
    weights = torch.load(model, map_location="cpu", weights_only=True)
    lora = {}
    for name, w in weights.items():
        ending = name.rsplit(".", 2)[-2] if name.endswith(".weight") else ""
        if ending in ("key", "value", "receptance", "output") and any(part in name for part in parts):
            stem = name[:-len(".weight")]
            lora[stem + ".lora_A"] = (torch.randn(RANK, w.shape[1]) * 0.2).to(getattr(torch, dtype))
            lora[stem + ".lora_B"] = (torch.randn(w.shape[0], RANK) * 0.05).to(getattr(torch, dtype))
        elif ".ln1." in name:
            lora[name] = (w.float() * 1.1 + 0.01).to(getattr(torch, dtype))
    torch.save(lora, out)


def merge(model, lora, out, alpha, scale):
    """RWKV-PEFT's merge/merge.py of type lora, in float64; and W + s (W' - W) for what stands whole in the file."""
    import torch
    w = torch.load(model, map_location="cpu", weights_only=True)
    adapter = torch.load(lora, map_location="cpu", weights_only=True)
    alpha, scale = float(alpha), float(scale)
    for name, tensor in adapter.items():
        if name.endswith(".lora_A"):
            stem = name[:-len(".lora_A")]
            b = adapter[stem + ".lora_B"]
            key = stem + ".weight" if stem + ".weight" in w else stem
            w[key] = (w[key].double() + scale * (alpha / b.shape[1]) * (b.double() @ tensor.double())).float()
        elif not name.endswith(".lora_B"):
            w[name] = (w[name].double() + scale * (tensor.double() - w[name].double())).float()
    torch.save(w, out)


def same(one, other):
    import torch
    a, b = (torch.load(path, map_location="cpu", weights_only=True) for path in (one, other))
    assert list(a) == list(b), f"names {list(a)[:3]} and {list(b)[:3]}"
    for name in a:
        assert a[name].shape == b[name].shape, name
        assert torch.equal(a[name].float(), b[name].float()), name


def make_state(model, out, transpose):
    import torch
    torch.manual_seed(2)
    weights = torch.load(model, map_location="cpu", weights_only=True)
    state = {}
    for name, w in weights.items():
        if name.endswith(".att.r_k"):
            heads, size = w.shape
            one = torch.randn(heads, size, size) * 0.1
            state[name[:-len("r_k")] + "time_state"] = one.transpose(1, 2).contiguous() if transpose == "1" else one
    torch.save(state, out)


def logits(model, ids, state_file):
    import torch
    weights = torch.load(model, map_location="cpu", weights_only=True)
    os.environ.update(RWKV_V7_ON="1" if is_rwkv7(weights) else "0", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    from rwkv.model import RWKV
    runs = RWKV(model=str(model)[:-len(".pth")], strategy="cpu fp32")
    state = None
    if state_file:
        state = runs.generate_zero_state()
        tuned = torch.load(state_file, map_location="cpu", weights_only=True)
        # As RWKV-Runner's load_rwkv_state does for version 7: not transposed.
        for i in range(len(state) // 3):
            state[i * 3 + 1] = tuned[f"blocks.{i}.att.time_state"].float()
    out, _ = runs.forward(json.loads(ids), state)
    print(json.dumps(out.float().tolist()))


INSIDE = {"lora": make_lora, "merge": merge, "same": same, "state": make_state, "logits": logits}


class Check(peer_formats.Check):
    def inside(self, *words):
        done = subprocess.run([str(self.python), __file__, "--inside", *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            self.say(" ".join(map(str, words[:2])), False, done.stderr.strip().splitlines()[-1])
            return None
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def ours(self, model, *flags):
        lines = self.rwkvx("generate", "--model", model, "--tokenizer", "byte", "--prompt", TEXT, "--max-new-tokens", 1,
                           "--temperature", 0, "--json-events", "--top-logprobs", 65536, *flags)
        for line in lines.splitlines():
            event = json.loads(line)
            if event["event"] == "token":
                return {one["token"]: one["logprob"] for one in event["top"]}
        raise SystemExit("no log probabilities among the events")

    def theirs(self, model, state=""):
        return self.inside("logits", model, json.dumps(list(TEXT.encode())), state)

    def differ(self, name, a, b):
        off = max(abs(a[i] - b[i]) for i in a)
        self.say(name, off > 1e-3, f"largest difference {off:.2e}, and there should be one")


def check_lora(check, at, model, dtype):
    check.inside("lora", model, at / "lora.pth", dtype)
    check.rwkvx("convert", at / "lora.pth", at / "adapter.safetensors", "--adapter-alpha", ALPHA, "--base", model)
    check.rwkvx("convert", at / "adapter.safetensors", at / "back.pth", "--to", "rwkv-peft")
    if check.inside("same", at / "lora.pth", at / "back.pth") is not None:
        check.say(f"{at.name}: torch loads what rwkvx writes", True, dtype)
    plain = check.ours(model)
    for scale in (1, 0.5):
        check.inside("merge", model, at / "lora.pth", at / "theirs.pth", ALPHA, scale)
        file = f"{at / 'adapter.safetensors'}:{scale}"
        ours = check.ours(model, "--adapter", file)
        theirs = check.theirs(at / "theirs.pth")
        check.compare(f"{at.name}: scale {scale}, rwkv runs RWKV-PEFT's merge", ours, theirs, LIMIT)
        check.rwkvx("convert", model, at / "ours.pth", "--merge", file, "--type", "f32", "--overwrite")
        check.compare(f"{at.name}: scale {scale}, rwkv runs rwkvx's merge", ours, check.theirs(at / "ours.pth"), LIMIT)
        check.say(f"{at.name}: scale {scale}, the merged model is the adapted one", check.ours(at / "ours.pth") == ours, "bits")
        check.differ(f"{at.name}: scale {scale}, it is another model", plain, ours)
    direct = check.ours(model, "--adapter", at / "lora.pth", "--adapter-alpha", ALPHA)
    check.say(f"{at.name}: the .pth is the adapter", direct == check.ours(model, "--adapter", at / "adapter.safetensors"), "bits")


def check_state(check, at, model):
    for transpose in "01":
        state = at / f"state{transpose}.pth"
        check.inside("state", model, state, transpose)
        ours = check.ours(model, "--adapter", state)
        check.compare(f"{at.name}: rwkv begins with the state {transpose}", ours, check.theirs(model, state), LIMIT)
        check.say(f"{at.name}: --load-state begins with it, too", check.ours(model, "--load-state", state) == ours, "bits")
        check.differ(f"{at.name}: it is another beginning", check.ours(model), ours)
    check.differ(f"{at.name}: transposed it is another state", check.ours(model, "--adapter", at / "state0.pth"), ours)
    check.rwkvx("convert", at / "state0.pth", at / "state.safetensors", "--base", model)
    check.rwkvx("convert", at / "state.safetensors", at / "state-back.pth")
    if check.inside("same", at / "state0.pth", at / "state-back.pth") is not None:
        check.say(f"{at.name}: torch loads the state that rwkvx writes", True, "bits")


def check_trained(check, at, model, lora):
    alpha = json.loads(check.rwkvx("info", "--model", lora, "--json"))["alpha"]
    check.rwkvx("convert", lora, at / "trained.pth", "--overwrite")
    check.inside("merge", model, at / "trained.pth", at / "trained-merged.pth", alpha, 1)
    check.compare(f"{at.name}: {lora.name} merged as RWKV-PEFT does", check.ours(model, "--adapter", lora, "--adapter-any-base"),
                  check.theirs(at / "trained-merged.pth"), LIMIT)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--program", type=Path, default=peer_formats.ROOT / "build/bin/rwkvx")
    parser.add_argument("--model", type=Path, nargs="+")
    parser.add_argument("--lora", type=Path)
    parser.add_argument("--inside", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        what, *words = given.inside
        INSIDE[what](*words)
        return
    if given.work is None or given.model is None:
        parser.error("--work and --model are required")
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    peer_formats.NEEDED = NEEDED
    check = Check(peer_formats.install(work), given.program.resolve(), work)
    for number, model in enumerate(given.model):
        model = model.resolve()
        at = work / model.stem
        shutil.rmtree(at, ignore_errors=True)
        at.mkdir()
        for dtype in ("float32", "bfloat16"):
            folder = at / f"{model.stem}-{dtype}"
            folder.mkdir()
            check_lora(check, folder, model, dtype)
        if json.loads(check.rwkvx("info", "--model", model, "--json"))["model"]["core"] == "rwkv7":
            check_state(check, at, model)
        if given.lora and number == 0:
            check_trained(check, at, model, given.lora.resolve())
    print("all agree" if check.failed == 0 else f"{check.failed} failed")
    sys.exit(check.failed != 0)


if __name__ == "__main__":
    main()
