#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/data/prompt_pairs.h"
#include "rwkvx/data/token_file.h"
#include "rwkvx/synth/write.h"

namespace rwkvx {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// ---- build ----

struct BuildFlags {
  std::vector<std::string> inputs;
  std::string tokenizer, output, part = "all";
  DataConfig data;
  std::int64_t threads = 0;
  bool json = false, quiet = false;
};

void run_build(const BuildFlags& flags) {
  const InterruptGuard guard;
  const auto tokenizer = load_tokenizer(flags.tokenizer);
  const TextPart part = flags.part == "train"   ? TextPart::kTrain
                        : flags.part == "valid" ? TextPart::kValid
                                                : TextPart::kAll;
  const TokenManifest built = build_tokens(flags.inputs, flags.data, *tokenizer, flags.output,
                                           flags.threads, flags.quiet, part);
  if (flags.json) {
    print(dump({{"output", TokenFilePaths(flags.output).prefix.string()},
                {"reused", built.reused},
                {"documents", built.documents},
                {"tokens", built.tokens},
                {"bytes", built.bytes},
                {"invalid_utf8", built.invalid_utf8},
                {"skipped_lines", built.skipped_lines},
                {"hash", built.hash}}));
  } else {
    print_row("token file",
              TokenFilePaths(flags.output).prefix.string() + (built.reused ? " (unchanged)" : ""));
    print_row("documents", count_text(built.documents));
    print_row("tokens", count_text(built.tokens));
    print_row("text", bytes_text(static_cast<double>(built.bytes)));
    if (built.invalid_utf8 > 0) print_row("invalid UTF-8", count_text(built.invalid_utf8));
    if (built.skipped_lines > 0) print_row("skipped lines", count_text(built.skipped_lines));
  }
  finish_output();
}

// ---- inspect ----

struct InspectFlags {
  std::string prefix, tokenizer;
  std::int64_t document = 0, sample = 64, top = 20;
  bool json = false;
};

// Ids by how often they occur, most frequent first, then by id.
std::vector<std::pair<std::int64_t, std::int64_t>> histogram(const TokenFile& tokens) {
  std::vector<std::int64_t> small(65536), piece(1 << 16);
  std::unordered_map<std::int64_t, std::int64_t> large;
  for (std::int64_t at = 0; at < tokens.size();) {
    const auto count =
        std::min<std::int64_t>(tokens.size() - at, static_cast<std::int64_t>(piece.size()));
    tokens.read(at, count, piece.data());
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t id = piece[static_cast<std::size_t>(i)];
      if (id >= 0 && id < static_cast<std::int64_t>(small.size()))
        ++small[static_cast<std::size_t>(id)];
      else
        ++large[id];
    }
    at += count;
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> counts(large.begin(), large.end());
  for (std::size_t id = 0; id < small.size(); ++id)
    if (small[id] > 0) counts.emplace_back(static_cast<std::int64_t>(id), small[id]);
  std::sort(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second > b.second : a.first < b.first;
  });
  return counts;
}

// The tokenizer to show texts with: the one named, else one that needs no file where that was used.
std::unique_ptr<Tokenizer> tokenizer_of(const InspectFlags& flags, const TokenManifest* manifest) {
  if (flags.tokenizer.empty()) {
    const auto kind = manifest != nullptr ? manifest->tokenizer_kind : "";
    if (kind == "ids") return make_ids_tokenizer(manifest->vocab_size, kNoToken);
    return kind == "byte" ? make_byte_tokenizer() : nullptr;
  }
  auto tokenizer = load_tokenizer(flags.tokenizer);
  if (manifest != nullptr && manifest->tokenizer_hash != tokenizer->hash())
    log_warning(flags.tokenizer + " is not the tokenizer that " + flags.prefix +
                " was built with; the texts shown may be wrong");
  return tokenizer;
}

Json inspect(const InspectFlags& flags) {
  std::unique_ptr<TokenManifest> manifest;
  if (const auto path = TokenFilePaths(flags.prefix).manifest; std::filesystem::exists(path)) {
    manifest = std::make_unique<TokenManifest>(read_manifest(flags.prefix));
    if (manifest->unfinished)
      throw DataError(path.string(), "says that the token file is unfinished; build it again");
  }
  const TokenFile tokens(flags.prefix);
  const auto tokenizer = tokenizer_of(flags, manifest.get());
  const auto text_of = [&](const std::vector<TokenId>& ids) -> Json {
    if (tokenizer == nullptr) return nullptr;
    std::string text;
    for (const TokenId id : ids)
      text += id >= 0 && id < tokenizer->vocab_size() ? tokenizer->piece(id) : "\xEF\xBF\xBD";
    return text;
  };

  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < tokens.documents(); ++i) {
    const auto [begin, end] = tokens.document(i);
    lengths.push_back(end - begin);
  }
  Json report{{"prefix", tokens.prefix().string()},
              {"documents", tokens.documents()},
              {"tokens", tokens.size()},
              {"bytes_per_id", tokens.width()}};
  if (!lengths.empty()) {
    std::sort(lengths.begin(), lengths.end());
    report["tokens_per_document"] = {{"least", lengths.front()},
                                     {"median", lengths[lengths.size() / 2]},
                                     {"most", lengths.back()}};
  }
  if (manifest != nullptr) {
    report["text_bytes"] = manifest->bytes;
    report["bytes_per_token"] =
        static_cast<double>(manifest->bytes) /
        static_cast<double>(std::max<std::int64_t>(1, manifest->tokens - manifest->documents));
    report["invalid_utf8"] = manifest->invalid_utf8;
    report["skipped_lines"] = manifest->skipped_lines;
    report["part"] = manifest->part;
    report["tokenizer"] = {{"kind", manifest->tokenizer_kind},
                           {"hash", manifest->tokenizer_hash},
                           {"vocab_size", manifest->vocab_size}};
    report["sources"] = Json::array();
    for (const auto& source : manifest->sources)
      report["sources"].push_back(
          {{"path", source.path}, {"bytes", source.bytes}, {"hash", source.hash}});
    report["hash"] = manifest->hash;
  }
  const auto counts = histogram(tokens);
  report["different_ids"] = counts.size();
  report["top"] = Json::array();
  for (const auto& [id, count] : counts) {
    if (static_cast<std::int64_t>(report["top"].size()) >= flags.top) break;
    report["top"].push_back(
        {{"id", id}, {"count", count}, {"piece", text_of({static_cast<TokenId>(id)})}});
  }
  if (tokens.documents() > 0) {
    const auto [begin, end] = tokens.document(flags.document);
    const auto ids = tokens.read(begin, std::min(end - begin, flags.sample));
    report["sample"] = {{"document", flags.document}, {"ids", ids}, {"text", text_of(ids)}};
  }
  return report;
}

void print_inspection(const Json& report) {
  const auto number = [&](const char* key) { return count_text(report[key].get<std::int64_t>()); };
  print_row("token file", report["prefix"]);
  print_row("documents", number("documents"));
  if (report.contains("tokens_per_document")) {
    const auto& lengths = report["tokens_per_document"];
    print_row("  tokens in each", count_text(lengths["least"]) + " to " +
                                      count_text(lengths["most"]) + ", median " +
                                      count_text(lengths["median"]));
  }
  print_row("tokens", number("tokens") + " of " + report["bytes_per_id"].dump() + " bytes");
  print_row("different ids", number("different_ids"));
  if (report.contains("tokenizer")) {
    char average[32];
    std::snprintf(average, sizeof average, "%.3f", report["bytes_per_token"].get<double>());
    print_row("text",
              bytes_text(report["text_bytes"].get<double>()) + ", " + average + " bytes per token");
    if (report["invalid_utf8"] > 0) print_row("invalid UTF-8", number("invalid_utf8"));
    if (report["skipped_lines"] > 0) print_row("skipped lines", number("skipped_lines"));
    const auto& tokenizer = report["tokenizer"];
    print_row("tokenizer", tokenizer["kind"].get<std::string>() + ", " +
                               count_text(tokenizer["vocab_size"]) + " ids, hash " +
                               tokenizer["hash"].get<std::string>());
    for (const auto& source : report["sources"])
      print_row(
          "source",
          source["path"].get<std::string>() + ", " + bytes_text(source["bytes"].get<double>()) +
              (report["part"] == "all" ? ""
                                       : ", its " + report["part"].get<std::string>() + " part"));
  }
  print("\nmost frequent ids\n");
  const auto tokens = static_cast<double>(std::max<std::int64_t>(1, report["tokens"]));
  for (const auto& row : report["top"]) {
    const std::int64_t id = row["id"], count = row["count"];
    char line[96];
    std::snprintf(line, sizeof line, "%9lld %14s %6.2f%%  ", static_cast<long long>(id),
                  count_text(count).c_str(), 100 * static_cast<double>(count) / tokens);
    std::string piece = row["piece"].is_null() ? "\n" : dump(row["piece"]);
    print(line + piece);
  }
  if (!report.contains("sample")) return;
  const auto& sample = report["sample"];
  print("\nstart of document " + sample["document"].dump() + "\n");
  if (sample["text"].is_null())
    print(dump(sample["ids"]) + "(name the tokenizer with --tokenizer to see the text)\n");
  else
    print(sample["text"].get<std::string>() + "\n");
}

void run_inspect(const InspectFlags& flags) {
  const Json report = inspect(flags);
  if (flags.json)
    print(dump(report));
  else
    print_inspection(report);
  finish_output();
}

// ---- synth ----

struct SynthFlags {
  std::string output, task = "stories";
  SynthOptions options;
  bool json = false, quiet = false;
};

void run_synth(const SynthFlags& flags) {
  const InterruptGuard guard;
  SynthOptions options = flags.options;
  options.task = &synth_task(flags.task, "--task");
  const SynthReport report = write_synth(options, flags.output, flags.quiet);
  if (flags.json) {
    print(dump({{"output", flags.output},
                {"task", flags.task},
                {"train_documents", report.train_documents},
                {"train_bytes", report.train_bytes},
                {"train_words", report.words},
                {"valid_documents", report.valid_documents},
                {"valid_bytes", report.valid_bytes},
                {"pairs", report.pairs}}));
  } else {
    const auto size = [](std::int64_t documents, std::int64_t bytes) {
      return count_text(documents) + " documents, " + bytes_text(static_cast<double>(bytes));
    };
    print_row("directory", flags.output);
    print_row("train.txt", size(report.train_documents, report.train_bytes) + ", " +
                               count_text(report.words) + " words");
    print_row("valid.txt", size(report.valid_documents, report.valid_bytes));
    print_row("boundaries.jsonl",
              "where words, phrases, sentences and paragraphs end in valid.txt");
    print_row("pairs.jsonl", count_text(report.pairs) + " prompts and references");
  }
  finish_output();
}

// ---- pairs ----

struct PairsFlags {
  std::vector<std::string> inputs;
  std::string output;
  DataConfig data;
  PairCutting cutting;
};

void run_pairs(PairsFlags flags) {
  for (const auto& input : flags.inputs)
    refuse_same_file("--output", flags.output, {{"--input", input}});
  flags.data.train = flags.inputs;
  const auto pairs = cut_pairs(flags.data, flags.cutting);
  write_pairs(flags.output, pairs);
  print_row("pairs", count_text(static_cast<std::int64_t>(pairs.size())) + " in " + flags.output);
  finish_output();
}

}  // namespace

void add_data_command(CLI::App& app) {
  auto* command = app.add_subcommand("data", "Turn text into token files, look at one, make text");
  command->require_subcommand(1);

  auto* build = command->add_subcommand("build", "Tokenize text files into PREFIX.idx and .bin");
  auto build_flags = std::make_shared<BuildFlags>();
  build
      ->add_option("--input", build_flags->inputs,
                   "files (.txt, .jsonl, .npy), directories or patterns")
      ->required()
      ->type_name("FILE");
  build->add_option("--tokenizer", build_flags->tokenizer, kTokenizerNames)
      ->required()
      ->type_name("PATH");
  build->add_option("--output", build_flags->output, "name of the token file without extension")
      ->required()
      ->type_name("PREFIX");
  build
      ->add_option("--separator", build_flags->data.separator,
                   "line that separates the documents of a .txt file [<|endoftext|>]")
      ->type_name("LINE");
  build
      ->add_option("--text-field", build_flags->data.text_field,
                   "field of a .jsonl line with the text [text]")
      ->type_name("NAME");
  build->add_flag("--skip-bad", build_flags->data.skip_bad_lines,
                  "leave out the lines of .jsonl files that cannot be read, count them and warn");
  build->add_option("--part", build_flags->part, "all, or the train or valid part [all]")
      ->check(CLI::IsMember({"all", "train", "valid"}));
  build
      ->add_option("--valid-fraction", build_flags->data.valid_fraction,
                   "share at the end that is the valid part [0.1]")
      ->type_name("X")
      ->check(between(0.0, 0.5));
  build->add_option("--threads", build_flags->threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(between(0, 1024));
  build->add_flag("--json", build_flags->json, "print a JSON object");
  build->add_flag("--quiet", build_flags->quiet, "no progress bar");
  build->callback([build_flags] { run_build(*build_flags); });

  auto* look = command->add_subcommand("inspect", "Describe a token file");
  auto inspect_flags = std::make_shared<InspectFlags>();
  look->add_option("prefix", inspect_flags->prefix, "name of the token file")
      ->required()
      ->type_name("PREFIX");
  look->add_option("--tokenizer", inspect_flags->tokenizer, kTokenizerNames)->type_name("PATH");
  look->add_option("--document", inspect_flags->document, "document to show the start of [0]")
      ->type_name("N");
  look->add_option("--sample", inspect_flags->sample, "tokens of it to show [64]")
      ->type_name("N")
      ->check(between(0, 1 << 20));
  look->add_option("--top", inspect_flags->top, "most frequent ids to list [20]")
      ->type_name("N")
      ->check(between(0, 1 << 20));
  look->add_flag("--json", inspect_flags->json, "print a JSON object");
  look->callback([inspect_flags] { run_inspect(*inspect_flags); });

  auto* synth = command->add_subcommand("synth", "Write synthetic text from a seed");
  auto synth_flags = std::make_shared<SynthFlags>();
  auto& options = synth_flags->options;
  synth->add_option("--output", synth_flags->output, "directory for the files")
      ->required()
      ->type_name("DIR");
  synth->add_option("--seed", options.seed, "same seed and options, same bytes [1]")
      ->type_name("N");
  std::string tasks = "Tasks:\n";
  for (const auto* task : synth_tasks())
    tasks += "  " + std::string(task->name) + std::string(11 - task->name.size(), ' ') +
             std::string(task->help) + "\n";
  synth->footer(tasks);
  synth->add_option("--task", synth_flags->task, "kind of text, see below [stories]")
      ->type_name("NAME");
  auto* stories =
      synth->add_option("--stories", options.stories, "documents of train.txt")->type_name("N");
  synth->add_option("--megabytes", options.megabytes, "size of train.txt in 10^6 bytes [1]")
      ->type_name("X")
      ->excludes(stories);
  synth
      ->add_option("--valid-fraction", options.valid_fraction,
                   "documents of valid.txt, as a share of those of train.txt [0.1]")
      ->type_name("X");
  synth->add_option("--pairs", options.pairs, "lines of pairs.jsonl [200]")->type_name("N");
  synth->add_flag("--json", synth_flags->json, "print a JSON object");
  synth->add_flag("--quiet", synth_flags->quiet, "no progress bar");
  synth->callback([synth_flags] { run_synth(*synth_flags); });

  auto* pairs =
      command->add_subcommand("pairs", "Cut prompts and continuations from held-out text");
  auto pairs_flags = std::make_shared<PairsFlags>();
  pairs->add_option("--input", pairs_flags->inputs, "files, directories or patterns")
      ->required()
      ->type_name("FILE");
  pairs->add_option("--output", pairs_flags->output, "JSONL file to write")
      ->required()
      ->type_name("FILE");
  pairs->add_option("--count", pairs_flags->cutting.count, "pairs at most [32]")
      ->type_name("N")
      ->check(between(1, 1 << 30));
  pairs->add_option("--prompt-words", pairs_flags->cutting.prompt_words, "words of a prompt [40]")
      ->type_name("N")
      ->check(between(1, 1 << 20));
  pairs
      ->add_option("--reference-words", pairs_flags->cutting.reference_words,
                   "words of a continuation [40]")
      ->type_name("N")
      ->check(between(1, 1 << 20));
  pairs
      ->add_option("--tail", pairs_flags->data.valid_fraction,
                   "share of the text, at its end, to cut from [0.1]")
      ->type_name("X")
      ->check(between(1e-6, 0.5));
  pairs->callback([pairs_flags] { run_pairs(*pairs_flags); });
}

}  // namespace rwkvx
