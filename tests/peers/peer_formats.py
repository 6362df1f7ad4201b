#!/usr/bin/env python3
"""Holds files of models to the programs that read and write them: their logits from our files, ours from
theirs, and round trips byte by byte.

    python3 tests/peers/peer_formats.py --work DIR [--program build/bin/rwkvx] [--model FILE.pth] [--layers 12 --width 768]

Not part of the default tests: it installs packages from PyPI into DIR (torch, transformers, rwkv, rwkv7-hf,
llama-cpp-python, which is compiled for some minutes). Models: --model, an official RWKV-7 .pth of bytes, and a random one
of the size of the 190M World model, with the vocabulary that the package rwkv carries. Where DIR/venv exists, it is used.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = ["torch", "numpy", "safetensors", "transformers", "rwkv==0.8.32", "rwkv7-hf==0.9.0", "llama-cpp-python==0.3.36"]
F32 = 1e-4  # largest difference of log probabilities


def install(work):
    python = work / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", work / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *NEEDED], check=True)
    return python


# What follows runs within the environment, a process for each program.

def logits_of_rwkv(path, ids):
    os.environ.update(RWKV_V7_ON="1", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    from rwkv.model import RWKV
    model = RWKV(model=str(path)[:-len(".pth")], strategy="cpu fp32")
    out, _ = model.forward(ids, None)
    return out.float().tolist()


def logits_of_transformers(path, ids):
    import torch
    from rwkv7_hf import RWKV7ForCausalLM
    model = RWKV7ForCausalLM.from_pretrained(path, torch_dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].float().tolist()


def logits_of_llama(path, ids):
    import llama_cpp
    model = llama_cpp.Llama(model_path=str(path), n_ctx=512, logits_all=True, verbose=False)
    model.eval(ids)
    return [float(x) for x in model.scores[len(ids) - 1]]


def make_random(path, layers, width):
    """An official RWKV-7 .pth of random weights, spread as in trained models."""
    import torch
    torch.manual_seed(1)
    C, V, N = width, 65536, 64
    H, ranks = C // N, {"w": 64, "a": 64, "v": 32, "g": 128}
    normal = lambda *shape, scale: torch.randn(*shape) * scale
    w = {"emb.weight": normal(V, C, scale=0.5)}
    for i in range(layers):
        b = f"blocks.{i}."
        for norm in (["ln0"] if i == 0 else []) + ["ln1", "ln2"]:
            w[b + norm + ".weight"], w[b + norm + ".bias"] = 1 + normal(C, scale=0.1), normal(C, scale=0.1)
        for mix in "rwkvag":
            w[b + "att.x_" + mix] = torch.rand(1, 1, C)
        for name, rank in ranks.items():
            if name == "v" and i == 0:
                continue
            if name != "g":
                w[b + f"att.{name}0"] = normal(1, 1, C, scale=1)
            w[b + f"att.{name}1"] = normal(C, rank, scale=C ** -0.5)
            w[b + f"att.{name}2"] = normal(rank, C, scale=rank ** -0.5)
        w[b + "att.k_k"], w[b + "att.k_a"] = 0.7 + normal(1, 1, C, scale=0.1), 1 + normal(1, 1, C, scale=0.1)
        w[b + "att.r_k"] = normal(H, N, scale=0.1)
        for name in ["receptance", "key", "value", "output"]:
            w[b + f"att.{name}.weight"] = normal(C, C, scale=C ** -0.5)
        w[b + "att.ln_x.weight"], w[b + "att.ln_x.bias"] = 1 + normal(C, scale=0.1), normal(C, scale=0.1)
        w[b + "ffn.x_k"] = torch.rand(1, 1, C)
        w[b + "ffn.key.weight"] = normal(4 * C, C, scale=C ** -0.5)
        w[b + "ffn.value.weight"] = normal(C, 4 * C, scale=0.5 * (4 * C) ** -0.5)
    w["ln_out.weight"], w["ln_out.bias"] = torch.ones(C), torch.zeros(C)
    w["head.weight"] = normal(V, C, scale=C ** -0.5)
    torch.save(w, path)


def load_and_save(path, out, kind):
    """What another program makes of a file: torch.load and torch.save, from_pretrained and save_pretrained."""
    import torch
    if kind == "pth":
        torch.save(torch.load(path, weights_only=True), out)
        return
    from rwkv7_hf import RWKV7ForCausalLM
    RWKV7ForCausalLM.from_pretrained(path, torch_dtype=torch.float32).save_pretrained(out, max_shard_size="200KB")


INSIDE = {"rwkv": logits_of_rwkv, "hf": logits_of_transformers, "llama": logits_of_llama}


class Check:
    def __init__(self, python, program, work):
        self.python, self.program, self.work, self.failed = python, program, work, 0

    def rwkvx(self, *words):
        done = subprocess.run([str(self.program), *map(str, words)], capture_output=True)
        if done.returncode != 0:
            raise SystemExit(f"rwkvx {' '.join(map(str, words))}: {done.stderr.decode()}")
        return done.stdout

    def inside(self, *words):
        done = subprocess.run([str(self.python), __file__, "--inside", *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            print(f"FAILED  {' '.join(map(str, words))}: {done.stderr.strip().splitlines()[-1]}")
            self.failed += 1
            return None
        return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""

    def ours(self, model, text, tokenizer):
        """Log probabilities of the next token, all of them."""
        lines = self.rwkvx("generate", "--model", model, "--tokenizer", tokenizer, "--prompt", text, "--max-new-tokens", 1,
                           "--temperature", 0, "--json-events", "--top-logprobs", 65536)
        for line in lines.splitlines():
            event = json.loads(line)
            if event["event"] == "token":
                return {one["token"]: one["logprob"] for one in event["top"]}
        raise SystemExit("no log probabilities among the events")

    def compare(self, name, ours, theirs, limit):
        import math
        if theirs is None:
            return
        theirs = json.loads(theirs)
        ids = [i for i in ours if i < len(theirs)]
        largest = max(theirs)
        total = largest + math.log(math.fsum(math.exp(x - largest) for x in theirs))
        off = max(abs(ours[i] - (theirs[i] - total)) for i in ids)
        self.say(name, off <= limit, f"largest difference {off:.2e} of {len(ids)} log probabilities")

    def say(self, name, good, what):
        print(f"{'ok    ' if good else 'FAILED'}  {name}: {what}")
        self.failed += not good

    def same(self, name, a, b):
        self.say(name, a.read_bytes() == b.read_bytes(), f"{a.stat().st_size} bytes")


def check_model(check, name, model, tokenizer, text, ids, limit, type_name):
    at = check.work / name
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    flags = ["--tokenizer", tokenizer]
    check.rwkvx("convert", model, at / "a.pth")
    check.rwkvx("convert", model, at / "a.safetensors")
    check.rwkvx("convert", model, at / "hf", "--to", "hf", *flags)
    check.rwkvx("convert", model, at / "a.gguf", *flags)
    # llama.cpp rounds what it multiplies with to the type of the weights, so it gets them as float32.
    check.rwkvx("convert", model, at / "f32.gguf", "--type", "f32", *flags)
    check.rwkvx("convert", model, at / "checkpoint", "--to", "checkpoint", *flags)
    ours = check.ours(model, text, tokenizer)
    for kind, path in [("rwkv", at / "a.pth"), ("hf", at / "hf"), ("llama", at / "f32.gguf")]:
        check.compare(f"{name}: {kind} reads {path.name}", ours, check.inside(kind, path, json.dumps(ids)), limit)
    for path in [at / "a.pth", at / "a.safetensors", at / "hf", at / "a.gguf", at / "checkpoint"]:
        again = check.ours(path, text, tokenizer)
        off = max(abs(again[i] - ours[i]) for i in ours)
        check.say(f"{name}: rwkvx reads {path.name}", off == 0, f"largest difference {off:.2e}")
    for path in [at / "a.safetensors", at / "hf", at / "a.gguf", at / "checkpoint"]:
        back = at / (path.name + ".pth")
        check.rwkvx("convert", path, back, "--type", type_name)
        check.same(f"{name}: .pth to {path.name} and back", at / "a.pth", back)
    for kind, source, out in [("pth", at / "a.pth", at / "theirs.pth"), ("save_hf", at / "hf", at / "theirs")]:
        if check.inside(kind, source, out) is None:
            continue
        back = at / "back.pth"
        check.rwkvx("convert", out, back, "--type", type_name, "--overwrite")
        check.same(f"{name}: {kind} writes, rwkvx reads", at / "a.pth", back)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--program", type=Path, default=ROOT / "build/bin/rwkvx")
    parser.add_argument("--model", type=Path, help="a small official RWKV-7 .pth of bytes, in bfloat16")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--inside", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        what, *words = given.inside
        if what in INSIDE:
            print(json.dumps(INSIDE[what](Path(words[0]), json.loads(words[1]))))
        elif what == "random":
            make_random(Path(words[0]), int(words[1]), int(words[2]))
        elif what == "vocabulary":
            import importlib.util
            print(Path(importlib.util.find_spec("rwkv").origin).parent / "rwkv_vocab_v20230424.txt")
        else:
            load_and_save(words[0], words[1], what)
        return
    if given.work is None:
        parser.error("--work is required")
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    check = Check(install(work), given.program.resolve(), work)
    if given.model:
        check_model(check, "tiny", given.model, "byte", '"in', list(b'"in'), F32, "bf16")
    if given.layers > 0:
        random = work / "random.pth"
        if not random.exists():
            check.inside("random", random, given.layers, given.width)
        vocabulary = check.inside("vocabulary")
        text = "The quick brown fox jumps over the lazy dog. Zwölf Boxkämpfer, 敏捷的狐狸!"
        encoded = subprocess.run([str(check.program), "tokenizer", "encode", "--tokenizer", vocabulary],
                                 input=text.encode(), capture_output=True, check=True)
        ids = [int(word) for word in encoded.stdout.split()]
        check_model(check, "random", random, vocabulary, text, ids, F32, "f32")
    print("all agree" if check.failed == 0 else f"{check.failed} failed")
    sys.exit(check.failed > 0)


if __name__ == "__main__":
    main()
