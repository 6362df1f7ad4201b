#!/usr/bin/env python3
"""Writes src/metrics/unicode_tables.cpp: python3 scripts/unicode_tables.py

The tables make text metrics agree with Python's str.lower() and with the classes \\p{P}, \\p{S} and \\p{N}
of the module regex, which sacrebleu's intl tokenizer uses, without a Unicode library. Lower case is
that of the Python that runs this (3.11 has Unicode 14); the classes are those of regex (2026.11.15).
"""
import os
import unicodedata

CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def runs(value):
    """First, last and value of the characters in a row that share a value, but for none."""
    found = []
    for c in CODES:
        v = value(c)
        if not v:
            continue
        if found and found[-1][1] == c - 1 and found[-1][2] == v:
            found[-1][1] = c
        else:
            found.append([c, c, v])
    return found


def ranges(wanted):
    return [run[:2] for run in runs(wanted)]


def category(letter):
    import regex

    inside = regex.compile(r"\p{%s}" % letter)
    return ranges(lambda c: inside.match(chr(c)) is not None)


# A capital sigma at the end of a word becomes the final form; Python does not tell which characters
# make a word, but shows it.
def cased(c):
    return (chr(c) + "Σ").lower().endswith("ς")


def passed_over(c):
    return not cased(c) and ("A" + chr(c) + "Σ").lower().endswith("ς")


def lower_runs():
    found = []
    for c in CODES:
        lower = chr(c).lower()
        if lower == chr(c) or len(lower) != 1:
            continue
        delta = ord(lower) - c
        if found and found[-1][3] == delta:
            first, last, stride, _ = found[-1]
            if c - last == stride if first != last else c - last in (1, 2):
                found[-1][1:3] = [c, c - last]
                continue
        found.append([c, c, 1, delta])
    return found


def table(type_name, name, rows):
    lines, line = [], "   "
    for row in rows:
        entry = " {" + ", ".join(str(v) if v < 128 else hex(v) for v in row) + "},"
        if len(line + entry) > 100:
            lines.append(line)
            line = "   "
        line += entry
    lines.append(line)
    return f"const {type_name} {name}Rows[] = {{\n" + "\n".join(lines) + "\n};\n"


def main():
    import regex

    ranged = {
        "kPunctuation": category("P"),
        "kSymbol": category("S"),
        "kNumber": category("N"),
        "kCased": ranges(cased),
        "kPassedOver": ranges(passed_over),
    }
    out = f"// Written by scripts/unicode_tables.py: lower case of Unicode {unicodedata.unidata_version}, "
    out += f"classes of regex {regex.__version__}.\n"
    out += '#include "rwkvx/metrics/unicode.h"\n\nnamespace rwkvx::unicode {\nnamespace {\n\n// clang-format off\n'
    out += "\n".join(table("Range", name, rows) for name, rows in ranged.items())
    out += "\n" + table("LowerRun", "kLower", lower_runs()) + "// clang-format on\n\n}  // namespace\n\n"
    for name in ranged:
        out += f"const std::span<const Range> {name}{{{name}Rows}};\n"
    out += "const std::span<const LowerRun> kLower{kLowerRows};\n\n}  // namespace rwkvx::unicode\n"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with open(os.path.join(root, "src/metrics/unicode_tables.cpp"), "w", encoding="utf-8") as file:
        file.write(out)


if __name__ == "__main__":
    main()
