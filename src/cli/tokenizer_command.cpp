#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {
namespace {

struct TrainFlags {
  std::vector<std::string> inputs;
  std::string output;
  SentencePieceTraining training;
  DataConfig data;
  double max_megabytes = 32;
  bool json = false;
};

struct CodeFlags {
  std::string tokenizer, input;
  bool pieces = false;
  std::int64_t rounds = 5;
  bool json = false;
};

// Throws FileError where a tokenizer is there that `tokenizer train` did not write.
void refuse_foreign(const std::filesystem::path& directory) {
  std::error_code ignored;
  const auto description = directory / "tokenizer.json", model = directory / "tokenizer.model";
  if (std::filesystem::exists(description, ignored)) {
    const auto json = parse_json_or_null(read_file(description));
    if (json.is_object() && json.contains("kind") && json.contains("hash")) return;
  }
  for (const auto& path : {description, model})
    if (std::filesystem::exists(path, ignored))
      throw FileError(path.string(),
                      "already exists and was not written by tokenizer train, so it is not "
                      "replaced; choose another --output");
}

void run_train(const TrainFlags& flags) {
  const InterruptGuard guard;
  const MadeDirectories made(flags.output);
  const auto lock = FileLock::of_directory(flags.output);
  refuse_foreign(flags.output);
  const auto bytes = static_cast<std::int64_t>(flags.max_megabytes * 1e6);
  const auto pieces = read_pieces(flags.inputs, flags.data, TextPart::kAll, bytes);
  const auto tokenizer = train_sentencepiece(pieces, flags.training);
  tokenizer->save(flags.output);

  std::int64_t text = 0, tokens = 0;
  for (const auto& piece : pieces) {
    if (text > 4'000'000) break;  // a sample is enough for the average
    text += static_cast<std::int64_t>(piece.size());
    tokens += static_cast<std::int64_t>(tokenizer->encode(piece).size());
  }
  const double bytes_per_token = static_cast<double>(text) / static_cast<double>(tokens);
  if (flags.json) {
    print(nlohmann::ordered_json{{"output", flags.output},
                                 {"kind", tokenizer->kind()},
                                 {"vocab_size", tokenizer->vocab_size()},
                                 {"hash", tokenizer->hash()},
                                 {"bytes_per_token", bytes_per_token}}
              .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
          "\n");
  } else {
    char average[32];
    std::snprintf(average, sizeof average, "%.3f", bytes_per_token);
    print_row("tokenizer", flags.output);
    print_row("vocabulary", count_text(tokenizer->vocab_size()) + " pieces");
    print_row("bytes per token", average);
    print_row("hash", tokenizer->hash());
  }
  finish_output();
}

// The file's content, or what comes on standard input.
std::string read_input(const std::string& input) {
  if (!input.empty() && input != "-") return read_file(input);
  if (::isatty(STDIN_FILENO) != 0)
    std::fputs("rwkvx: reading from the terminal, end it with Ctrl-D\n", stderr);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

void run_encode(const CodeFlags& flags) {
  const auto tokenizer = load_tokenizer(flags.tokenizer);
  const auto ids = tokenizer->encode(read_input(flags.input));
  std::string line;
  for (const TokenId id : ids) {
    if (flags.pieces) {
      const auto piece = nlohmann::json(tokenizer->piece(id))
                             .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      line += std::to_string(id) + "\t" + piece + "\n";
    } else {
      line += (line.empty() ? "" : " ") + std::to_string(id);
    }
  }
  print(line + (flags.pieces ? "" : "\n"));
  finish_output();
}

void run_decode(const CodeFlags& flags) {
  const auto tokenizer = load_tokenizer(flags.tokenizer);
  const std::string input = read_input(flags.input);
  const std::string where = flags.input.empty() ? "standard input" : flags.input;
  static constexpr const char* kBetween = " \t\r\n,[]";
  std::int64_t number = 0;
  bool at_start = true;
  for (auto begin = input.find_first_not_of(kBetween); begin != std::string::npos;) {
    const auto end = std::min(input.find_first_of(kBetween, begin), input.size());
    TokenId id = 0;
    const auto [stop, error] = std::from_chars(input.data() + begin, input.data() + end, id);
    ++number;
    if (error != std::errc() || stop != input.data() + end || id < 0 ||
        id >= tokenizer->vocab_size())
      throw DataError(where, "id number " + std::to_string(number) + " is \"" +
                                 input.substr(begin, std::min<std::size_t>(end - begin, 20)) +
                                 "\", expected 0 to " +
                                 std::to_string(tokenizer->vocab_size() - 1));
    print(tokenizer->piece_in_text(id, at_start));
    begin = input.find_first_not_of(kBetween, end);
  }
  finish_output();
}

// The fastest of several rounds over a text, on one thread.
void run_bench(const CodeFlags& flags) {
  using Clock = std::chrono::steady_clock;
  const auto seconds_since = [](Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  };
  const auto text = read_input(flags.input);
  if (text.empty())
    throw DataError(flags.input.empty() ? "standard input" : flags.input, "holds no text");
  const auto begin = Clock::now();
  const auto tokenizer = load_tokenizer(flags.tokenizer);
  const double load = seconds_since(begin);
  double encode = 0, decode = 0;
  std::size_t tokens = 0;
  for (std::int64_t round = 0; round < flags.rounds; ++round) {
    const auto encoding = Clock::now();
    const auto ids = tokenizer->encode(text);
    const double encoded = seconds_since(encoding);
    const auto decoding = Clock::now();
    tokenizer->decode(ids);
    const double decoded = seconds_since(decoding);
    encode = round == 0 ? encoded : std::min(encode, encoded);
    decode = round == 0 ? decoded : std::min(decode, decoded);
    tokens = ids.size();
  }
  const auto megabytes = static_cast<double>(text.size()) / 1e6;
  const auto number = [](double value) {
    char shown[32];
    std::snprintf(shown, sizeof shown, "%.1f", value);
    return std::string(shown);
  };
  if (flags.json) {
    print(nlohmann::ordered_json{{"kind", tokenizer->kind()},
                                 {"bytes", text.size()},
                                 {"tokens", tokens},
                                 {"load_seconds", load},
                                 {"megabytes_per_second", megabytes / encode},
                                 {"decode_megabytes_per_second", megabytes / decode}}
              .dump() +
          "\n");
  } else {
    print_row("tokenizer", tokenizer->kind() + ", loaded in " + number(load * 1000) + " ms");
    print_row("text", bytes_text(static_cast<double>(text.size())) + ", " +
                          count_text(static_cast<std::int64_t>(tokens)) + " tokens");
    print_row("encode", number(megabytes / encode) + " MB/s");
    print_row("decode", number(megabytes / decode) + " MB/s");
  }
  finish_output();
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  auto* command = app.add_subcommand("tokenizer", "Train a tokenizer, or try one");
  command->require_subcommand(1);

  auto* train = command->add_subcommand("train", "Train a sentencepiece model on text files");
  auto flags = std::make_shared<TrainFlags>();
  train->add_option("--input", flags->inputs, "files (.txt, .jsonl), directories or patterns")
      ->required()
      ->type_name("FILE");
  train->add_option("--output", flags->output, "directory for the tokenizer")
      ->required()
      ->type_name("DIR");
  train->add_option("--vocab-size", flags->training.vocab_size, "number of pieces [1024]")
      ->type_name("N")
      ->check(between(kLeastPieces, 1 << 20));
  train->add_option("--model-type", flags->training.model_type, "unigram or bpe [unigram]")
      ->type_name("NAME")
      ->check(CLI::IsMember({"unigram", "bpe"}));
  add_old_name(*train, "--algorithm", "--model-type");
  train
      ->add_option("--character-coverage", flags->training.character_coverage,
                   "share of characters that get pieces of their own [0.9995]")
      ->type_name("X")
      ->check(between(0.9, 1.0));
  add_old_name(*train, "--coverage", "--character-coverage");
  train
      ->add_option("--separator", flags->data.separator,
                   "line that separates the documents of a .txt file [<|endoftext|>]")
      ->type_name("LINE");
  train
      ->add_option("--text-field", flags->data.text_field,
                   "field of a .jsonl line with the text [text]")
      ->type_name("NAME");
  train
      ->add_option("--max-megabytes", flags->max_megabytes,
                   "train on an even sample of longer texts [32]")
      ->type_name("X")
      ->check(between(0.001, 1e6));
  train->add_flag("--json", flags->json, "print a JSON object");
  train->callback([flags] { run_train(*flags); });

  const auto add = [&](const char* name, const char* help, const char* input_help,
                       void (*run)(const CodeFlags&)) {
    auto* sub = command->add_subcommand(name, help);
    auto options = std::make_shared<CodeFlags>();
    sub->add_option("--tokenizer", options->tokenizer, kTokenizerNames)
        ->required()
        ->type_name("PATH");
    sub->add_option("--input", options->input, input_help)->type_name("FILE");
    sub->callback([options, run] { run(*options); });
    return std::pair(sub, options);
  };
  auto [encode, encode_options] = add("encode", "Print the ids of a text, on one line",
                                      "text to encode; else standard input", run_encode);
  encode->add_flag("--pieces", encode_options->pieces,
                   "one id a line, with its piece as a JSON string");
  add("decode", "Print the text of ids, without anything added",
      "ids separated by spaces, commas or line ends; else standard input", run_decode);
  auto [bench, bench_options] = add("bench", "Measure encoding and decoding on one thread",
                                    "text to encode; else standard input", run_bench);
  bench->add_option("--rounds", bench_options->rounds, "rounds, of which the fastest counts [5]")
      ->type_name("N")
      ->check(between(1, 1 << 20));
  bench->add_flag("--json", bench_options->json, "print a JSON object");
}

}  // namespace rwkvx
