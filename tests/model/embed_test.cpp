// What `embed` gives, against the modules.
#include "rwkvx/generate/embed.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "rwkvx/cores/names.h"
#include "rwkvx/model/checkpoint.h"
#include "rwkvx/model/rwkv.h"
#include "support/random_model.h"

namespace rwkvx {
namespace {

const std::string kText = "the blue bird sings, 東京";

std::string long_text() {
  std::string text;
  for (int i = 0; i < 100; ++i) text += kText + std::to_string(i);
  return text;
}

// The rows that the modules give, (T, C).
at::Tensor module_rows(const RandomModel& made, const std::string& text) {
  const torch::NoGradGuard no_grad;
  Rwkv model(made.config);
  load_weights(*model, open_tensors(made.folder / "model.safetensors"));
  model->eval();
  const auto ids = made.generator->tokenizer().encode(text);
  auto state = model->start(1);
  return model
      ->features(torch::tensor(std::vector<int64_t>(ids.begin(), ids.end())).unsqueeze(0), state)
      .squeeze(0);
}

void expect_near(const std::vector<float>& found, const at::Tensor& wanted, double tolerance) {
  ASSERT_EQ(static_cast<std::int64_t>(found.size()), wanted.numel());
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_NEAR(found[i], wanted[static_cast<std::int64_t>(i)].item<double>(), tolerance) << i;
}

TEST(EmbedAndModules, PoolTheRowsThatTheHeadReads) {
  const RandomModel made;
  for (const auto& text : {std::string("a"), kText, long_text()}) {
    const auto rows = module_rows(made, text);
    const auto mean = embed(*made.generator, text, Pooling::kMean, false, "test");
    EXPECT_EQ(mean.tokens, static_cast<std::int64_t>(text.size()));
    expect_near(mean.values, rows.to(torch::kFloat64).mean(0), 2e-4);
    expect_near(embed(*made.generator, text, Pooling::kLast, false, "test").values, rows[-1], 2e-4);
    const auto unit = embed(*made.generator, text, Pooling::kMean, true, "test");
    double squares = 0;
    for (const float value : unit.values) squares += static_cast<double>(value) * value;
    EXPECT_NEAR(squares, 1, 1e-6);
    EXPECT_NEAR(unit.values[3] * mean.values[5], unit.values[5] * mean.values[3], 1e-6);
  }
}

}  // namespace
}  // namespace rwkvx
