#include "generate/initial_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/formats/pth.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using testing::HasSubstr;

const std::vector<StateRow> kRows{
    {"blocks.0.att.x", {4}, {7}}, {"blocks.0.att.wkv", {2, 2, 2}}, {"blocks.1.att.wkv", {2, 2, 2}}};

struct File {
  ScratchDirectory folder;
  std::vector<float> values = std::vector<float>(8);
  std::filesystem::path write(const std::vector<std::string>& names,
                              const std::vector<std::int64_t>& shape = {2, 2, 2}) {
    std::iota(values.begin(), values.end(), 0.0f);
    std::vector<TensorView> views;
    for (const auto& name : names)
      views.push_back({name, DType::kF32, shape, std::as_bytes(std::span(values))});
    write_pth(folder / "s.pth", pending(views));
    return folder / "s.pth";
  }
  std::string refused(const std::vector<std::string>& names,
                      const std::vector<std::int64_t>& shape = {2, 2, 2}) {
    try {
      read_initial_state(write(names, shape), kRows);
    } catch (const DataError& error) {
      return error.what();
    }
    return "";
  }
};

// RWKV-7's state is (heads, value, key) in such a file, too: src/adapters/peft.cpp.
TEST(InitialState, IsTakenAsItLies) {
  File file;
  const auto state = read_initial_state(
      file.write({"blocks.0.att.time_state", "model.blocks.1.att.time_state"}), kRows);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->t, 0);
  EXPECT_EQ(state->values[0], (std::vector<float>{7, 7, 7, 7}));
  EXPECT_EQ(state->values[1], file.values);
  EXPECT_EQ(state->values[2], state->values[1]);
}

TEST(InitialState, OfAnotherModelIsRefused) {
  File file;
  EXPECT_THAT(file.refused({"blocks.0.att.time_state"}), HasSubstr("blocks.1.att.wkv: is missing"));
  EXPECT_THAT(file.refused({"blocks.0.att.time_state", "blocks.1.att.time_state"}, {1, 2, 4}),
              HasSubstr("expected the state of this model, (2, 2, 2), got (1, 2, 4)"));
  EXPECT_THAT(file.refused({"blocks.0.att.time_state", "blocks.1.att.time_state",
                            "blocks.2.att.time_state"}),
              HasSubstr("blocks.2.att.wkv: is no state of the model"));
  EXPECT_THAT(file.refused({"emb.weight"}), HasSubstr("without blocks.0.att.time_state"));
}

TEST(InitialState, OtherFilesAreNoneOfIts) {
  const ScratchDirectory folder;
  write_file(folder / "s", "no zip archive");
  EXPECT_FALSE(read_initial_state(folder / "s", kRows));
}

}  // namespace
}  // namespace rwkvx
