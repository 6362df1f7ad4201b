// Files of pairs, scored with everything and shown, and of outcomes of choices: an Error or scores,
// never a crash.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/eval/choices.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/eval/scoring.h"
#include "rwkvx/eval/side_by_side.h"

using namespace rwkvx;

std::vector<std::string> fuzz_seeds() {
  return {
      "{\"prediction\": \"a cat\\nsat\", \"reference\": [\"the cat sat\", \"x\"]}\n"
      "{\"id\": \"z\", \"prediction\": \"\", \"reference\": \"Привет 中文\"}\n",
      "\xef\xbb\xbf{\"prediction\": \"1,000.5 don't\", \"reference\": \"b\"}\r\n\r\n",
      "{\"id\": 1, \"item\": \"x\", \"answer\": 1, \"logprobs\": [-1.5, -2], \"tokens\": [1, 2], "
      "\"characters\": [1, 3], \"bytes\": [1, 3], \"greedy\": [true, false]}\n",
      "One. Two<n>three。四！\nof two lines", ""};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto file = folder.path() / "pairs";
  write_file(file, {reinterpret_cast<const char*>(data), size});
  const auto metrics =
      parse_metrics("rouge1,rouge2,rougeL,rougeLsum,rougeW,rougeSU4,bleu,chrf++",
                    nlohmann::json{{"ROUGE",
                                    {{"stemmer", true},
                                     {"rouge_tokenizer", size % 2 == 0 ? "google" : "unicode"},
                                     {"rouge_lines", size % 5 == 0 ? "split" : "mark"},
                                     {"several", size % 7 == 0 ? "mean" : "best"}}},
                                   {"BLEU", {{"bleu_tokenizer", size % 4 == 0 ? "zh" : "13a"}}}},
                    "fuzz");
  ScoringOptions options;
  options.threads = 1;
  options.skip_bad = size % 3 == 0;
  for (const bool json : {true, false}) try {
      const auto source = json ? pairs_from_json(file) : pairs_from_texts(file, file);
      score_pairs(*source, metrics, options);
    } catch (const Error&) {
    }
  try {
    if (holds_choice_outcomes(file)) read_choice_outcomes(file);
  } catch (const Error&) {
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  html_side_by_side(text.substr(0, size / 2), text.substr(0, size / 2), "", text.substr(size / 2));
  return 0;
}
