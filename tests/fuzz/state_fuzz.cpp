// State files, and tuned initial states in .pth files: an Error or a state of the shape that was
// asked for.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "generate/initial_state.h"
#include "generate/state_file.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "support/pth_builder.h"

using namespace rwkvx;

namespace {

const StateOwner kOwner{"model", "tokenizer", {{"a.x", {4}}, {"a.ring", {2, 4}, {0}, true}}};
const std::vector<StateRow> kTuned{{"blocks.0.att.x", {4}}, {"blocks.0.att.wkv", {2, 2, 2}}};
constexpr std::int64_t kVocabulary = 5;

PlainState sample() {
  PlainState state;
  for (const auto& row : kOwner.rows)
    state.values.emplace_back(static_cast<std::size_t>(row.count()), 0.25f);
  state.t = 3;
  return state;
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  const TemporaryFolder folder;
  SavedState saved;
  saved.state = sample();
  saved.logits.assign(kVocabulary, 1.0f);
  saved.text.sampler.seen[2] = 1.5;
  saved.text_hash = "hash";
  write_state(folder.path() / "s", saved, kOwner);
  const auto whole = read_file(folder.path() / "s");
  test::PthBuilder tuned;
  tuned.add("blocks.0.att.time_state", {2, 2, 2});
  return {whole, whole.substr(0, whole.size() - 4), whole.substr(8), tuned.build(), ""};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto path = folder.path() / "state";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const auto found = read_state(path, kOwner, kVocabulary);
    if (found.state.values.size() != 2 || found.state.values[1].size() != 8 ||
        found.logits.size() != kVocabulary)
      std::abort();
  } catch (const Error&) {
  }
  try {
    const auto found = read_initial_state(path, kTuned);
    if (found && (found->values.size() != 2 || found->values[1].size() != 8)) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
