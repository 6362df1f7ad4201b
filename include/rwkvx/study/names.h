// The people of synthetic stories: where a text names them, and whether a continuation names those
// that its prompt does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkvx {

// Bytes [begin, end) of a whole word that is a name; `first`: this name was not there before.
struct NameMention {
  std::int64_t begin, end;
  bool first;
};
std::vector<NameMention> name_mentions(std::string_view text);

// The last bytes of names, where a model has read all of it, each with what it is compared with:
// of first and of later mentions the last byte of another word of as many letters within `reach`
// bytes, drawn without replacement (names without one are left out); of `again`, a name's second
// mention, that of its first, so that the tokens are the same.
struct NamePairs {
  std::vector<std::pair<std::int64_t, std::int64_t>> first, later, again;
};
NamePairs matched_names(std::string_view text, std::int64_t reach, std::uint64_t seed);

// Names in a continuation: of people whom the prompt names, and others. A name at the very end,
// which may be the beginning of a longer word, does not count.
struct NameCounts {
  std::int64_t known = 0, others = 0;
};
NameCounts count_names(std::string_view prompt, std::string_view continuation);

// {"known", "others", "chance"}, a count for each prompt: "chance" those that the prompt of the
// next line would make known. `prompts` and `predictions` are JSON lines in the same order.
nlohmann::ordered_json name_scores(const std::filesystem::path& prompts,
                                   const std::filesystem::path& predictions);

}  // namespace rwkvx
