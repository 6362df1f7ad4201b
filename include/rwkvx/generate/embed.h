// Texts to vectors: a model's hidden states.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/generate/generator.h"

namespace rwkvx {

enum class Pooling { kMean, kLast };
constexpr std::string_view enum_names(Pooling) { return "mean|last"; }

struct Embedding {
  std::vector<float> values;  // (C)
  std::int64_t tokens = 0;    // that the text has
};

// What the head reads (the output of ln_out) after the tokens of a text alone, which begins an
// empty state: the mean over its tokens, or that of its last one; of length 1 where `normalize`. It
// does not depend on the number of threads. Throws DataError with `where` for an empty text and for
// hidden states that are not finite, Interrupted where a signal came.
Embedding embed(Generator& generator, std::string_view text, Pooling pooling, bool normalize,
                const std::string& where);

struct EmbedOptions {
  std::optional<std::string> text;  // else those of `input`
  std::filesystem::path input;      // JSON lines or lines of text; read twice
  std::string input_name;           // what messages call it; empty: as the path
  bool json_lines = false;
  std::string field = "text";    // of a JSON line, with the text
  std::filesystem::path output;  // written atomically; a name that ends in .npy: a matrix (n, C)
  // Takes JSON lines in the output's place, where set; false where nobody reads them any more.
  std::function<bool(std::string_view)> write_line{};
  Pooling pooling = Pooling::kMean;
  bool normalize = false;
  bool quiet = false;
};

// Writes an embedding per text, in order: as JSON lines the members of the input's line, or "text",
// then "tokens" and "embedding". Returns how many. All lines are checked first: throws DataError
// naming the line for one without a text, and where there is none at all; FileError.
std::int64_t embed_texts(Generator& generator, const EmbedOptions& options);

}  // namespace rwkvx
