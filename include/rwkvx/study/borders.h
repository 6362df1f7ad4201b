// Where words, phrases, sentences and paragraphs end in a text, and positions to compare them with.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/synth/synth.h"

namespace rwkvx {

// Ends in natural text: a word ends before white space; a phrase after , ; or :, a sentence after
// . ! or ? (closing quotes and brackets included) before white space; a paragraph before a blank
// line or the end. A rule of thumb: "Mr. Bennet" counts as a sentence's end. Sorted by offset, then
// kind; an end of a higher kind is one of the lower kinds too.
std::vector<Boundary> natural_boundaries(std::string_view text);

// 0 for bytes inside; where a byte is the first one after an end, the highest kind that ends
// there: 1 word, 2 phrase, 3 sentence, 4 paragraph. A causal model can know the end only there.
std::vector<std::uint8_t> border_levels(std::string_view text,
                                        const std::vector<Boundary>& boundaries);

// For each position of `level` another within `reach` bytes, drawn without replacement where enough
// are there: of a word's end, a letter between two letters; of the higher kinds, the end of a plain
// word, so that what follows is white space in both. Positions without such a partner are left out.
std::vector<std::pair<std::int64_t, std::int64_t>> matched_positions(
    std::string_view text, const std::vector<std::uint8_t>& levels, int level, std::int64_t reach,
    std::uint64_t seed);

}  // namespace rwkvx
