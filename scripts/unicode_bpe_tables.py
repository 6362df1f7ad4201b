#!/usr/bin/env python3
"""Writes src/text/unicode_tables.cpp: python3 scripts/unicode_bpe_tables.py

The tables make byte-level BPE tokenizers cut words and compose characters as the library tokenizers
(0.23) does: the classes \\p{L} and \\p{N} are those of Unicode 16 (the module unicodedata2 16.0.0), NFC
is that of Unicode 14 (the Python 3.11 that runs this).
"""
import os
import unicodedata

import unicodedata2

from unicode_tables import CODES, ranges, runs, table

HANGUL = range(0xAC00, 0xD7A4)  # composed by arithmetic


def decompositions():
    rows = []
    for c in CODES:
        parts = unicodedata.decomposition(chr(c))
        if not parts or parts.startswith("<") or c in HANGUL:
            continue
        codes = [int(part, 16) for part in parts.split()]
        composes = len(codes) == 2 and unicodedata.normalize("NFC", chr(c)) == chr(c)
        rows.append([c, codes[0], codes[1] if len(codes) > 1 else 0, int(composes)])
    return rows


def main():
    assert unicodedata.unidata_version == "14.0.0" and unicodedata2.unidata_version == "16.0.0"
    tables = {
        "kLetters": ("CodeRange", ranges(lambda c: unicodedata2.category(chr(c))[0] == "L")),
        "kNumbers": ("CodeRange", ranges(lambda c: unicodedata2.category(chr(c))[0] == "N")),
        "kCombining": ("CombiningRange", runs(lambda c: unicodedata.combining(chr(c)))),
        "kDecompositions": ("Decomposition", decompositions()),
    }
    out = f"// Written by scripts/unicode_bpe_tables.py: classes of Unicode {unicodedata2.unidata_version}, "
    out += f"NFC of Unicode {unicodedata.unidata_version}.\n"
    out += '#include "unicode.h"\n\nnamespace rwkvx {\nnamespace {\n\n// clang-format off\n'
    out += "\n".join(table(kind, name, rows) for name, (kind, rows) in tables.items())
    out += "// clang-format on\n\n}  // namespace\n\n"
    for name, (kind, _) in tables.items():
        out += f"const std::span<const {kind}> {name}{{{name}Rows}};\n"
    out += "\n}  // namespace rwkvx\n"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "src/text/unicode_tables.cpp"), "w", encoding="utf-8") as file:
        file.write(out)


if __name__ == "__main__":
    main()
