// What a message says of an unknown name: those that there are, and the closest one.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

// Number of single-character insertions, deletions, replacements and swaps of neighbors that turn
// `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

// The member of `valid` closest to `word`, or "" where none is close enough to be what was meant.
std::string nearest(std::string_view word, const std::vector<std::string>& valid);

// "a, b, c", for what a message expects.
std::string name_list(const std::vector<std::string>& names);

// "; did you mean "X"?" or "" where nothing is close.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& valid);

}  // namespace rwkvx
