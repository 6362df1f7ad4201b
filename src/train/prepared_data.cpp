#include "train/prepared_data.h"

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

PreparedData documents(const TrainConfig& config, const Tokenizer& tokenizer, bool quiet,
                       const TokenSetsCheck& check) {
  const auto& d = config.data;
  const auto& t = config.train;
  if (d.train.empty())
    throw ConfigError("data.train", "names no text; expected one or more .jsonl files");
  if (d.valid.empty() && d.valid_fraction <= 0)
    throw ConfigError("data.valid_fraction",
                      "must be above 0 when data.valid is empty; otherwise there is nothing to "
                      "validate on");
  const auto read = [&](const std::vector<std::string>& entries, const DataConfig& how,
                        TextPart part) {
    return std::make_unique<SupervisedSet>(
        read_supervised(entries, how, tokenizer, t.ctx_len, part, t.threads, quiet));
  };
  auto as_given = d;  // what is validated on
  as_given.swap_variants = 0;
  PreparedData data;
  data.train_documents = read(d.train, d, training_part(d));
  data.valid_documents = d.valid.empty() ? read(d.train, as_given, TextPart::kValid)
                                         : read(d.valid, as_given, TextPart::kAll);
  data.sets.train_manifest = data.train_documents->manifest;
  data.sets.valid_manifest = data.valid_documents->manifest;
  check(data.sets);
  const auto tokens = t.batch_size * t.ctx_len;
  data.batches = packed_batches(*data.train_documents, tokens, static_cast<std::uint64_t>(t.seed));
  data.checks = packed_checks(*data.valid_documents, tokens, t.eval_tokens);
  data.train_tokens = data.train_documents->tokens();
  data.valid_tokens = data.valid_documents->tokens();
  data.weighted = true;
  return data;
}

}  // namespace

PreparedData prepare_data(const TrainConfig& config, const Tokenizer& tokenizer,
                          const std::filesystem::path& folder, bool quiet,
                          const TokenSetsCheck& check) {
  if (config.data.format != DataFormat::kText) return documents(config, tokenizer, quiet, check);
  const auto& t = config.train;
  PreparedData data;
  data.sets = build_token_sets(
      config.data, tokenizer, folder, t.threads, quiet, [&](const TokenSets& sets) {
        check_length(config.data.train.front(), sets.train_manifest.tokens, t.ctx_len);
        check(sets);
      });
  const auto &train = *data.sets.train_tokens, &valid = *data.sets.valid_tokens;
  for (const auto* tokens : {&train, &valid}) tokens->check_vocab(config.model.vocab_size);
  data.batches = window_batches(
      Batcher(data.sets.mixture, t.ctx_len, t.batch_size, static_cast<std::uint64_t>(t.seed)),
      t.ctx_len, t.batch_size);
  data.checks = window_checks(valid, t.ctx_len, t.batch_size, t.eval_tokens);
  data.train_tokens = train.size();
  data.valid_tokens = valid.size();
  return data;
}

}  // namespace rwkvx
