// Two texts beside each other as HTML.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rwkvx {

// Two texts beside each other with their longest common subsequence of words marked. Words are
// compared without case. Beyond `most_words` words on either side nothing is marked.
std::string html_side_by_side(std::string_view left_title, std::string_view left,
                              std::string_view right_title, std::string_view right,
                              std::size_t most_words = 2000);

}  // namespace rwkvx
