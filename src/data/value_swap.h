// Values that a prompt gives and its response repeats, exchanged for made-up ones in both: what is
// left to learn is to copy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkvx {

struct PromptResponse {
  std::string prompt, response;
};

class ValueSwap {
 public:
  // Values stand in prompts between `open` and the next `close`. Made-up ones are of words that
  // collect() has seen, whole or two halves put together. `share`: of the values that are
  // exchanged.
  ValueSwap(std::string open, std::string close, double share);
  // Words of a text to make values of.
  void collect(std::string_view text);
  // After the last collect().
  void finish();
  // A pair in which some values are exchanged, as the numbers that `key` names have it; nothing
  // where none is. A value counts if the response holds it, and nowhere as a part of a longer word.
  std::optional<PromptResponse> swapped(std::string_view prompt, std::string_view response,
                                        std::uint64_t key) const;

 private:
  class Numbers;
  std::string made_up(std::string_view value, Numbers& numbers) const;

  std::string open_, close_;
  double share_;
  std::vector<std::string> words_;
};

}  // namespace rwkvx
