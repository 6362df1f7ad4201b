#include "rwkvx/data/prompt_pairs.h"

#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/data/corpus.h"

namespace rwkvx {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f'; }

// Where each word of a text starts, and the text's length as the last.
std::vector<std::size_t> word_starts(const std::string& text) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (!is_space(text[i]) && (i == 0 || is_space(text[i - 1]))) starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

}  // namespace

std::vector<PromptPair> cut_pairs(const DataConfig& data, const PairCutting& cutting) {
  const auto& sources = data.valid.empty() ? data.train : data.valid;
  if (sources.empty())
    throw ConfigError("data.train",
                      "expected one or more files, directories or patterns, got none");
  const auto part = data.valid.empty() ? TextPart::kValid : TextPart::kAll;
  const std::int64_t needed = cutting.prompt_words + cutting.reference_words;
  std::vector<PromptPair> all;
  for (const auto& piece : read_pieces(sources, data, part)) {
    const auto starts = word_starts(piece);
    const auto words = static_cast<std::int64_t>(starts.size()) - 1;
    for (std::int64_t first = 0; first + needed <= words; first += needed) {
      const auto at = [&](std::int64_t word) { return starts[static_cast<std::size_t>(word)]; };
      const auto middle = at(first + cutting.prompt_words);
      auto reference = piece.substr(middle, at(first + needed) - middle);
      while (!reference.empty() && is_space(reference.back())) reference.pop_back();
      all.push_back({piece.substr(at(first), middle - at(first)), std::move(reference)});
    }
  }
  if (all.empty())
    throw DataError(sources.front(), "no document of the validation part has " +
                                         std::to_string(needed) +
                                         " words; ask for shorter prompts or references");
  const auto count = static_cast<std::int64_t>(all.size());
  if (count <= cutting.count) return all;
  std::vector<PromptPair> spread;
  for (std::int64_t i = 0; i < cutting.count; ++i)
    spread.push_back(std::move(all[static_cast<std::size_t>(i * count / cutting.count)]));
  return spread;
}

void write_pairs(const std::filesystem::path& path, const std::vector<PromptPair>& pairs) {
  AtomicFile file(path);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    nlohmann::ordered_json line;
    line["id"] = std::to_string(i + 1);
    line["prompt"] = pairs[i].prompt;
    line["reference"] = pairs[i].reference;
    file.write(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  file.commit();
}

}  // namespace rwkvx
