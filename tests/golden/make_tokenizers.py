#!/usr/bin/env python3
"""Writes tokenizer/: small byte-level BPE tokenizers and the ids that tokenizers 0.23.3 gives for odd texts.

    python3 tests/golden/make_tokenizers.py
"""
import json
import os
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
SENTENCES = [
    "The ship's captain didn't know that they'd already seen the island, and we're not sure she'll tell him.",
    "def main(arguments):\n    for number in range(10):\n        print(number, end=' ')\n\n    return 0\n",
    "Der Müller läuft über die Brücke; naïve Gäste trinken Café au lait für 12,50 € — même à Genève.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "日本語の文章です。東京は大きい。 中文也有一句話。 한국어 문장도 있습니다.",
    "नमस्ते दुनिया! שלום עולם. مرحبا بالعالم",
    "😀😃 emoji 👩‍👩‍👧 family, 1234567890 and 3.14159",
]
PIECES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''", " ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", "\u00a0",
          "\u3000", "\u2028", "\x1c", "\x85", "\u200b", "the", " the", "ship", "print", "12", "½", "Ⅷ", "٣", "_", "!", "...", "€",
          "é", "e\u0301", "a\u0323\u0302", "a\u0302\u0323", "\u0301", "\u212b", "\u2126", "\u1e9b\u0323", "각", "\u1100\u1161\u11a8",
          "가\u11a8", "\u0f73", "\u0344", "\u0958", "\u2adc", "か\u3099", "日本", "булок", "नमस्ते", "😀", "👩‍👩‍👧", "\U0001d15e", "\U000e0001", "\uffff",
          "<|endoftext|>", "<|pad|>", "[café]", "[cafe\u0301]", "<end", "\u0378", "\ua7cd", "\U0001e5d0"]


def train(add_prefix_space, normalizer):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, special_tokens=["<|endoftext|>", "<|pad|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.add_tokens([AddedToken("   ", normalized=True), AddedToken("[café]", normalized=True),
                          AddedToken("\u212bx", normalized=False)])
    return tokenizer


def with_merges_as_texts(tokenizer):
    tree = json.loads(tokenizer.to_str())
    tree["model"]["merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]
    return tree


def texts():
    draw = random.Random(5)
    found = SENTENCES + [piece for piece in PIECES] + [""]
    for _ in range(250):
        found.append("".join(draw.choice(PIECES) for _ in range(draw.randrange(1, 20))))
    for _ in range(60):
        found.append("".join(chr(c) for c in (draw.randrange(0x3100) for _ in range(30)) if not 0xD800 <= c < 0xE000))
    found += ["x" * 200, "ab" * 100, " " * 60 + "z", "\u0301" * 40, "日" * 70]
    return found


def main():
    os.makedirs(HERE, exist_ok=True)
    trees = {
        "nfc": with_merges_as_texts(train(False, normalizers.NFC())),
        "prefix": json.loads(train(True, None).to_str()),
        "whole": json.loads(train(False, normalizers.Sequence([])).to_str()),
    }
    trees["whole"]["model"]["ignore_merges"] = True
    trees["whole"]["pre_tokenizer"]["use_regex"] = False
    # A token that merging never makes, and only whole words find.
    vocab = trees["whole"]["model"]["vocab"]
    vocab["shipland"] = len(vocab)
    for token in trees["whole"]["added_tokens"]:
        token["id"] += token["id"] >= vocab["shipland"]
    trees["whole"]["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [trees["whole"]["pre_tokenizer"]]}
    for name, tree in trees.items():
        with open(os.path.join(HERE, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(tree, file, ensure_ascii=name == "nfc", separators=(",", ":"))
            file.write("\n")
        tokenizer = Tokenizer.from_str(json.dumps(tree))
        with open(os.path.join(HERE, name + ".jsonl"), "w", encoding="utf-8") as file:
            for text in texts() + ["shipland"]:
                ids = tokenizer.encode(text).ids
                back = tokenizer.decode(ids, skip_special_tokens=False)
                file.write(json.dumps({"text": text, "ids": ids, "decoded": back}) + "\n")


if __name__ == "__main__":
    main()
