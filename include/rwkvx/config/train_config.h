// Everything `rwkvx train --config FILE` reads: the sections model, tokenizer, data and train.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "rwkvx/base/field.h"
#include "rwkvx/config/model_config.h"
#include "rwkvx/config/schedule.h"

namespace rwkvx {

// Of a sentencepiece model, as text/tokenizer.h has it.
inline constexpr std::int64_t kLeastPieces = 270;

enum class TokenizerKind { kSentencePiece, kByte, kWorld, kHuggingFace, kIds };
constexpr std::string_view enum_names(TokenizerKind) {
  return "sentencepiece|byte|world|huggingface|ids";
}

enum class SentencePieceModel { kUnigram, kBpe };
constexpr std::string_view enum_names(SentencePieceModel) { return "unigram|bpe"; }

struct TokenizerConfig {
  TokenizerKind kind = TokenizerKind::kSentencePiece;
  std::string path;
  std::int64_t vocab_size = 1024;
  SentencePieceModel model_type = SentencePieceModel::kUnigram;
  double character_coverage = 0.9995;
  std::int64_t document_end = -1;

  static constexpr auto fields() {
    using C = TokenizerConfig;
    return std::tuple{
        Field<C, TokenizerKind>{"kind", &C::kind, "kind of tokenizer"},
        Field<C, std::string>{"path", &C::path,
                              "tokenizer file to use; empty = train one on the training text "
                              "(sentencepiece), none needed (byte, ids)"},
        Field<C, std::int64_t>{"vocab_size", &C::vocab_size,
                               "number of pieces of a sentencepiece model trained here (270 or "
                               "more), or of ids",
                               1, 1 << 24},
        added(Field<C, std::int64_t>{"document_end", &C::document_end,
                                     "of ids: the id that ends documents; -1 = one more than "
                                     "vocab_size says",
                                     -1, 1 << 24}),
        renamed("algorithm",
                Field<C, SentencePieceModel>{"model_type", &C::model_type,
                                             "type of a sentencepiece model trained here"}),
        renamed("coverage",
                Field<C, double>{
                    "character_coverage", &C::character_coverage,
                    "share of characters with pieces of their own; others become bytes", 0.9, 1.0}),
    };
  }
  void check(const std::string& where) const;
};

enum class DataFormat { kText, kPairs, kMessages };
constexpr std::string_view enum_names(DataFormat) { return "text|pairs|messages"; }

enum class LossOn { kResponses, kAll };
constexpr std::string_view enum_names(LossOn) { return "responses|all"; }

// What happens to a document of pairs or messages with more than ctx_len tokens.
enum class TooLong { kCutPrompt, kCutResponse, kSkip };
constexpr std::string_view enum_names(TooLong) { return "cut_prompt|cut_response|skip"; }

struct DataConfig {
  DataFormat format = DataFormat::kText;
  std::string prompt_field = "prompt";
  std::string response_field = "response";
  std::string messages_field = "messages";
  std::string weight_field = "weight";
  std::string chat_template = "plain";
  LossOn loss_on = LossOn::kResponses;
  TooLong too_long = TooLong::kCutPrompt;
  std::int64_t swap_variants = 0;
  std::vector<std::string> swap_between = {"[", "]"};
  double swap_share = 0.6;
  std::vector<std::string> train;
  std::vector<double> weights;
  std::vector<std::string> valid;
  double valid_fraction = 0.1;
  std::string separator = "<|endoftext|>";
  std::string text_field = "text";
  bool skip_bad_lines = false;
  std::string cache;

  static constexpr auto fields() {
    using C = DataConfig;
    using S = Field<C, std::string>;
    return std::tuple{
        added(Field<C, DataFormat>{
            "format", &C::format,
            "text, or .jsonl lines of pairs (prompt and response) or of messages (role and "
            "content), each a document of its own"}),
        added(S{"prompt_field", &C::prompt_field, "of pairs: field that holds the prompt"}),
        added(S{"response_field", &C::response_field,
                "of pairs: field that holds the response, or an array of responses, each of which "
                "makes a pair"}),
        added(S{"messages_field", &C::messages_field, "field that holds the messages"}),
        added(S{"weight_field", &C::weight_field,
                "of pairs and messages: field of a line or a message that, where it is there, "
                "holds the weight of its responses' losses"}),
        added(S{"template", &C::chat_template,
                "how pairs and messages become text: plain, chatml, user_assistant, or a text with "
                "{prompt} and {response}, for messages with {role} and {content}"}),
        added(Field<C, LossOn>{"loss_on", &C::loss_on,
                               "of pairs and messages: tokens that are learned, those of the "
                               "responses or all"}),
        added(Field<C, TooLong>{
            "too_long", &C::too_long,
            "what happens to pairs and messages of more than ctx_len tokens: the prompt loses its "
            "beginning, the response its end, or the line is left out; all are counted"}),
        added(Field<C, std::int64_t>{
            "swap_variants", &C::swap_variants,
            "of pairs to train on: how often each comes again with values that its prompt gives "
            "and its response repeats exchanged for made-up ones, so that copying is learned "
            "where there are few values",
            0, 1000}),
        added(Field<C, std::vector<std::string>>{
            "swap_between", &C::swap_between,
            "for swap_variants: what stands before and after a value in a prompt"}),
        added(Field<C, double>{"swap_share", &C::swap_share,
                               "for swap_variants: share of the values that are exchanged", 0.0,
                               1.0}),
        Field<C, std::vector<std::string>>{"train", &C::train,
                                           "training text: files (.txt, .jsonl, .npy, token files "
                                           ".idx), directories or patterns with *"},
        added(Field<C, std::vector<double>>{
            "weights", &C::weights,
            "for each entry of train, its share of the training sequences; empty = all texts one "
            "after the other"}),
        Field<C, std::vector<std::string>>{"valid", &C::valid,
                                           "validation text; empty = the end of the training text"},
        Field<C, double>{"valid_fraction", &C::valid_fraction,
                         "share of the training text held out for validation if valid is empty",
                         0.0, 0.5},
        Field<C, std::string>{"separator", &C::separator,
                              "line that separates the documents of a .txt file; empty = the whole "
                              "file is one document"},
        Field<C, std::string>{"text_field", &C::text_field,
                              "field of a .jsonl line that holds the text"},
        Field<C, bool>{"skip_bad_lines", &C::skip_bad_lines,
                       "skip and count invalid lines of .jsonl files with a warning instead of "
                       "refusing the file"},
        Field<C, std::string>{"cache", &C::cache,
                              "directory for token files; empty = data/ in the output directory"},
    };
  }
  void check(const std::string& where) const;
};

enum class Operators { kFused, kReference };
constexpr std::string_view enum_names(Operators) { return "fused|reference"; }

enum class GradCheckpoint { kNone, kBlock };
constexpr std::string_view enum_names(GradCheckpoint) { return "none|block"; }

// What is trained in place of the model.
enum class TrainAdapter { kNone, kLora, kState, kShift };
constexpr std::string_view enum_names(TrainAdapter) { return "none|lora|state|shift"; }

// What becomes of the gradient where a sequence is cut into segments.
enum class Bptt { kTruncated, kFull };
constexpr std::string_view enum_names(Bptt) { return "truncated|full"; }

enum class BestBy { kLoss, kRougeL };
constexpr std::string_view enum_names(BestBy) { return "loss|rouge_l"; }

enum class Precision { kAuto, kBf16, kF32 };
constexpr std::string_view enum_names(Precision) { return "auto|bf16|f32"; }

enum class OptimizerKind { kAdamw, kMuon };
constexpr std::string_view enum_names(OptimizerKind) { return "adamw|muon"; }

enum class MomentType { kF32, kInt8 };
constexpr std::string_view enum_names(MomentType) { return "f32|int8"; }

enum class OnSpike { kStop, kSkip, kRollback };
constexpr std::string_view enum_names(OnSpike) { return "stop|skip|rollback"; }

struct TrainingConfig {
  std::string output = "runs/rwkvx";
  std::string init_from;
  std::int64_t seed = 1;
  std::int64_t ctx_len = 256;
  std::int64_t batch_size = 8;
  std::int64_t grad_accum_steps = 1;
  std::int64_t max_steps = 1000;
  std::int64_t max_tokens = 0;
  double epochs = 0;
  double learning_rate = 1e-3;
  double final_learning_rate = 1e-4;
  Schedule lr_schedule = Schedule::kCosine;
  double decay_share = 0.2;
  std::int64_t warmup_steps = 40;
  std::int64_t warmup_tokens = 0;
  OptimizerKind optimizer = OptimizerKind::kAdamw;
  MomentType moments = MomentType::kF32;
  double muon_momentum = 0.95;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  double grad_clip = 1.0;
  double shift_lr_scale = 3.0;
  bool layerwise_lr = true;
  double l2wrap = 0.0;
  double dropout = 0.0;
  std::vector<std::string> freeze;
  TrainAdapter adapter = TrainAdapter::kNone;
  std::int64_t lora_rank = 16;
  double lora_alpha = 32;
  std::vector<std::string> lora_matrices = {"att", "ffn"};
  std::int64_t segment_tokens = 0;
  Bptt bptt = Bptt::kTruncated;
  double ema_decay = 0;
  OnSpike on_spike = OnSpike::kStop;
  double spike_zscore = 0;
  std::int64_t spike_window = 128;
  std::int64_t max_guards = 10;
  std::int64_t log_every = 10;
  std::int64_t eval_every = 100;
  std::int64_t eval_tokens = 65536;
  std::int64_t eval_generate = 0;
  BestBy best_by = BestBy::kLoss;
  std::int64_t patience = 0;
  std::int64_t save_every = 500;
  std::int64_t keep_last = 2;
  Operators operators = Operators::kFused;
  GradCheckpoint grad_checkpoint = GradCheckpoint::kNone;
  bool cuda_graph = false;
  std::int64_t threads = 0;
  std::string device = "auto";
  Precision precision = Precision::kAuto;
  bool tensorboard = false;
  bool watch_gates = false;
  bool shard_optimizer = true;
  double timeout = 600;

  static constexpr auto fields() {
    using C = TrainingConfig;
    using I = Field<C, std::int64_t>;
    using D = Field<C, double>;
    return std::tuple{
        Field<C, std::string>{"output", &C::output, "directory for checkpoints and logs"},
        added(Field<C, std::string>{
            "init_from", &C::init_from,
            "model to start from, in any form that is read, with its sizes and tokenizer; empty = "
            "initial values"}),
        I{"seed", &C::seed, "random seed of the initial weights and the data order", 0,
          9007199254740991.0},
        I{"ctx_len", &C::ctx_len, "tokens per training sequence", 1, 1 << 24},
        I{"batch_size", &C::batch_size, "sequences per forward pass", 1, 1 << 20},
        renamed("accumulation", I{"grad_accum_steps", &C::grad_accum_steps,
                                  "forward passes accumulated into one step", 1, 1 << 20}),
        I{"max_steps", &C::max_steps,
          "optimizer steps; the first of max_steps, max_tokens and epochs that is reached ends the "
          "run, 0 = not set",
          0, 1e12},
        added(I{"max_tokens", &C::max_tokens, "tokens to train on; 0 = not set", 0, 1e15}),
        added(D{"epochs", &C::epochs, "passes over the training text; 0 = not set", 0, 1e6}),
        D{"learning_rate", &C::learning_rate, "peak learning rate", 0, 10},
        D{"final_learning_rate", &C::final_learning_rate,
          "learning rate at the end of the schedule", 0, 10},
        added(Field<C, Schedule>{"lr_schedule", &C::lr_schedule,
                                 "shape of the learning rate after the warm-up"}),
        added(D{"decay_share", &C::decay_share,
                "wsd: share of the run after the warm-up in which the rate falls, at its end",
                0.001, 1}),
        I{"warmup_steps", &C::warmup_steps, "warm-up from 20 % to 100 % of the learning rate", 0,
          1e12},
        added(I{"warmup_tokens", &C::warmup_tokens, "the same in tokens; 0 = as warmup_steps says",
                0, 1e15}),
        added(Field<C, OptimizerKind>{"optimizer", &C::optimizer,
                                      "adamw, or muon for the matrices of the blocks and adamw for "
                                      "the rest"}),
        added(Field<C, MomentType>{
            "moments", &C::moments,
            "how AdamW's moments are kept; int8 takes a quarter of the memory, on the CPU"}),
        added(D{"muon_momentum", &C::muon_momentum, "Muon: decay of its momentum", 0, 0.9999}),
        D{"beta1", &C::beta1, "AdamW: decay of the first moment", 0, 0.999999},
        D{"beta2", &C::beta2, "AdamW: decay of the second moment", 0, 0.999999999},
        D{"epsilon", &C::epsilon, "AdamW: added to the square root of the second moment", 1e-30, 1},
        D{"weight_decay", &C::weight_decay,
          "AdamW: weight decay of the matrices; nothing else decays", 0, 10},
        D{"grad_clip", &C::grad_clip, "maximum global gradient norm; 0 = no limit", 0, 1e9},
        D{"shift_lr_scale", &C::shift_lr_scale,
          "learning-rate multiplier of the shift's parameters", 0, 1000},
        Field<C, bool>{
            "layerwise_lr", &C::layerwise_lr,
            "train the decays at 2 and the bonuses at 3 times the learning rate, as RWKV-LM does"},
        D{"l2wrap", &C::l2wrap,
          "penalty on each position's largest logit (RWKV-LM uses 1e-4); 0 = none", 0, 1},
        added(D{"dropout", &C::dropout,
                "share of the residual stream's numbers that are zeroed behind the embedding and "
                "behind each part of a block while training",
                0, 0.95}),
        added(Field<C, std::vector<std::string>>{
            "freeze", &C::freeze,
            "names of parameters that are not trained: core = all but the enhancement, parts of "
            "names (att.key), or patterns with * (blocks.0.*)"}),
        added(Field<C, TrainAdapter>{
            "adapter", &C::adapter,
            "what is trained in place of the model, and saved in a file of its own: LoRA, the "
            "state that sequences start from, or the shift; none = the model"}),
        added(I{"lora_rank", &C::lora_rank, "LoRA: rank of what is added to a matrix", 1, 4096}),
        added(D{"lora_alpha", &C::lora_alpha, "LoRA: alpha / rank multiplies what is added", 1e-6,
                1e6}),
        added(Field<C, std::vector<std::string>>{
            "lora_matrices", &C::lora_matrices,
            "LoRA: the matrices, by parts of their names or patterns with *"}),
        added(I{"segment_tokens", &C::segment_tokens,
                "tokens of a sequence that go through the model together, the state carried on; "
                "less memory for long sequences; 0 = all",
                0, 1 << 24}),
        added(Field<C, Bptt>{
            "bptt", &C::bptt,
            "gradient where a sequence is cut into segments: truncated there, or full, which runs "
            "each segment twice"}),
        added(D{"ema_decay", &C::ema_decay,
                "decay of averages of the weights that are validated beside them; 0 = none", 0,
                0.9999999}),
        added(Field<C, OnSpike>{"on_spike", &C::on_spike,
                                "what a loss or gradient that spikes or is not finite does: stop, "
                                "skip the step, or rollback to the last good checkpoint"}),
        added(D{"spike_zscore", &C::spike_zscore,
                "standard deviations above the mean of the last steps at which a loss or gradient "
                "norm spikes; 0 = only values that are not finite",
                0, 1e6}),
        added(I{"spike_window", &C::spike_window, "steps that a spike is measured against", 8,
                1 << 20}),
        added(I{"max_guards", &C::max_guards,
                "steps skipped or rolled back in all before the run ends with an error", 0, 1e9}),
        I{"log_every", &C::log_every, "steps between lines of log.jsonl", 1, 1e12},
        I{"eval_every", &C::eval_every, "steps between validations; 0 = only at the end", 0, 1e12},
        I{"eval_tokens", &C::eval_tokens, "tokens per validation; 0 = all", 0, 1e12},
        added(I{"eval_generate", &C::eval_generate,
                "of pairs: validation prompts that are answered at each validation, greedily, to "
                "log the ROUGE-L of the responses; 0 = none",
                0, 1e9}),
        added(
            Field<C, BestBy>{"best_by", &C::best_by,
                             "what makes a checkpoint the best one: the lowest validation loss or "
                             "the highest ROUGE-L"}),
        added(I{"patience", &C::patience,
                "validations in a row without a better one after which the run ends; 0 = no such "
                "end",
                0, 1e9}),
        I{"save_every", &C::save_every, "steps between checkpoints; 0 = only at the end", 0, 1e12},
        I{"keep_last", &C::keep_last, "number of latest checkpoints kept besides the best", 1,
          1000000},
        Field<C, Operators>{"operators", &C::operators,
                            "fused, or reference: the modules with LibTorch's gradients, slower"},
        Field<C, GradCheckpoint>{
            "grad_checkpoint", &C::grad_checkpoint,
            "block: keep only each block's input and recompute the rest; less memory, slower"},
        added(Field<C, bool>{
            "cuda_graph", &C::cuda_graph,
            "on a GPU: record the work of a batch once and start it as a whole, which small models "
            "gain from; batches of other lengths, with masked tokens or dropout go kernel by "
            "kernel"}),
        I{"threads", &C::threads, "CPU threads; 0 = automatic", 0, 1024},
        Field<C, std::string>{"device", &C::device,
                              "auto, cpu or cuda:N; auto = the first GPU that this build can use, "
                              "else the CPU"},
        Field<C, Precision>{"precision", &C::precision,
                            "precision of linear layers; auto = bf16 on a GPU, f32 on the CPU"},
        added(Field<C, bool>{"tensorboard", &C::tensorboard,
                             "write the log's numbers to event files in tensorboard/ of the output "
                             "directory too"}),
        added(Field<C, bool>{"watch_gates", &C::watch_gates,
                             "log statistics of the shift's gates with each validation"}),
        added(Field<C, bool>{"shard_optimizer", &C::shard_optimizer,
                             "of several processes: each keeps and updates a part of the "
                             "optimizer's state (ZeRO-1), with the same result"}),
        added(D{"timeout", &C::timeout,
                "of several processes: seconds after which one that does not answer ends all", 1,
                1e6}),
    };
  }
  void check(const std::string& where) const;
};

struct TrainConfig {
  ModelConfig model;
  TokenizerConfig tokenizer;
  DataConfig data;
  TrainingConfig train;

  static constexpr auto fields() {
    using C = TrainConfig;
    return std::tuple{
        Field<C, ModelConfig>{"model", &C::model, "the network"},
        Field<C, TokenizerConfig>{"tokenizer", &C::tokenizer, "text to token ids"},
        Field<C, DataConfig>{"data", &C::data, "what is read"},
        Field<C, TrainingConfig>{"train", &C::train, "how it is trained"},
    };
  }
};

RWKVX_SETTINGS_FUNCTIONS(extern, TrainConfig)

// model.vocab_size, or where that is 0 the size that a tokenizer as configured will have.
std::int64_t expected_vocab_size(const TrainConfig& config);

}  // namespace rwkvx
