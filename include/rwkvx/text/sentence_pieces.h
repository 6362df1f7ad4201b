// The pieces of a sentencepiece model as texts, as scores of translations count them.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace rwkvx {

// A function that gives the pieces of a text as the library writes them ("▁" for a space, unknown
// text as it is), with one blank between. It may be called from several threads; invalid UTF-8
// becomes U+FFFD. Throws DataError or FileError where the file is no such model.
std::function<std::string(std::string_view)> sentence_piece_cutter(
    const std::filesystem::path& model);

}  // namespace rwkvx
