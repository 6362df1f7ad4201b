#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/arguments.h"
#include "cli/bench.h"
#include "cli/output.h"
#include "rwkvx/base/busy_threads.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/threads.h"
#include "rwkvx/base/version.h"
#include "rwkvx/checkpoint/model_source.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/engine/engine_bench.h"
#include "rwkvx/kernels/simd.h"

namespace rwkvx {
namespace {

using nlohmann::ordered_json;

struct BenchDecodeFlags {
  std::string shape = "tiny", core = "rwkv4", model, types = "f32,bf16,int8,int4",
              kinds = "baseline,enhanced";
  std::string threads = "0";
  std::int64_t load = 0;
  EngineBenchOptions options;
  bool json = false;
};

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= list.size();) {
    const auto end = std::min(list.find(',', begin), list.size());
    parts.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Median, lowest and highest.
ordered_json summary(const std::vector<double>& values) {
  if (values.empty()) return nullptr;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return {{"median", median(values)}, {"lowest", *low}, {"highest", *high}};
}

std::string series_name(const EngineBenchSeries& one) {
  return one.kind + " " + std::string(weight_type_name(one.type));
}

// The quotients of two series' rounds.
ordered_json ratio(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> quotients;
  for (std::size_t i = 0; i < std::min(above.size(), below.size()); ++i)
    quotients.push_back(above[i] / below[i]);
  return summary(quotients);
}

// The median time of a token in every round.
std::vector<double> round_medians(const EngineBenchSeries& one) {
  std::vector<double> out;
  for (const auto& round : one.latencies) out.push_back(median(round));
  return out;
}

ordered_json ratios_of(const EngineBench& bench) {
  ordered_json out = ordered_json::object();
  const EngineBenchSeries* first = nullptr;
  for (const auto& one : bench.series) {
    const auto name = series_name(one);
    out[name + ": share of bandwidth"] = summary(one.share_of_bandwidth);
    if (!one.batch_per_second.empty())
      out[name + ": batch ÷ one sequence"] = ratio(one.batch_per_second, one.tokens_per_second);
    if (!one.prefill_per_second.empty())
      out[name + ": prefill ÷ products alone"] =
          ratio(one.prefill_per_second, bench.products_per_second);
    if (first == nullptr || first->kind != one.kind) first = &one;
    if (first != &one)
      out[name + " ÷ " + std::string(weight_type_name(first->type)) + ", speed"] =
          ratio(one.tokens_per_second, first->tokens_per_second);
    for (const auto& other : bench.series)
      if (one.kind == "enhanced" && other.kind == "baseline" && other.type == one.type)
        out[name + " ÷ baseline, latency"] = ratio(round_medians(one), round_medians(other));
  }
  return out;
}

void print_table(const ordered_json& result) {
  char line[200];
  std::snprintf(line, sizeof line, "memory is read at %.1f GB/s; instructions: %s; threads: %s\n\n",
                result["bandwidth"]["median"].get<double>() / 1e9,
                result["instruction_set"].get<std::string>().c_str(),
                result["threads_used"].get<std::string>().c_str());
  print(line);
  std::snprintf(line, sizeof line, "%-14s %8s %8s %8s %7s %9s %8s %8s\n", "", "tokens/s", "p50 ms",
                "p99 ms", "limit", "batch t/s", "prefill", "MiB");
  print(line);
  const auto speed = [](const ordered_json& value) {
    if (value.is_null()) return std::string();
    const double number = value["median"];
    char text[32];
    std::snprintf(text, sizeof text, number < 100 ? "%.1f" : "%.0f", number);
    return std::string(text);
  };
  for (const auto& row : result["series"]) {
    std::snprintf(line, sizeof line, "%-14s %8s %8.2f %8.2f %6.1f%% %9s %8s %8.0f\n",
                  row["name"].get<std::string>().c_str(), speed(row["tokens_per_second"]).c_str(),
                  1e3 * row["latency"]["p50"].get<double>(),
                  1e3 * row["latency"]["p99"].get<double>(),
                  100 * row["share_of_bandwidth"]["median"].get<double>(),
                  speed(row["batch_per_second"]).c_str(), speed(row["prefill_per_second"]).c_str(),
                  row["resident_bytes"].get<double>() / (1 << 20));
    print(line);
  }
  print("\n");
  for (const auto& item : result["ratios"].items()) {
    const auto& value = item.value();
    if (value.is_null()) continue;
    std::snprintf(line, sizeof line, "%-44s %7.3f  (%.3f to %.3f)\n", item.key().c_str(),
                  value["median"].get<double>(), value["lowest"].get<double>(),
                  value["highest"].get<double>());
    print(line);
  }
}

ordered_json bench_json(const BenchDecodeFlags& flags, std::int64_t threads,
                        const EngineBench& bench) {
  ordered_json result = {{"version", version()},
                         {"threads", threads},
                         {"threads_used", bench_threads(threads)},
                         {"load", flags.load},
                         {"instruction_set", simd_name()},
                         {"shape", flags.model.empty() ? flags.shape : flags.model},
                         {"rounds", flags.options.rounds},
                         {"bandwidth", summary(bench.bandwidth)},
                         {"products_per_second", summary(bench.products_per_second)},
                         {"series", ordered_json::array()}};
  for (const auto& one : bench.series) {
    std::vector<double> latencies;
    for (const auto& round : one.latencies)
      latencies.insert(latencies.end(), round.begin(), round.end());
    std::sort(latencies.begin(), latencies.end());
    result["series"].push_back({{"name", series_name(one)},
                                {"file_bytes", one.file_bytes},
                                {"bytes_per_token", one.bytes_per_token},
                                {"resident_bytes", one.resident_bytes},
                                {"tokens_per_second", summary(one.tokens_per_second)},
                                {"share_of_bandwidth", summary(one.share_of_bandwidth)},
                                {"latency",
                                 {{"p50", nearest_quantile(latencies, 0.5)},
                                  {"p95", nearest_quantile(latencies, 0.95)},
                                  {"p99", nearest_quantile(latencies, 0.99)},
                                  {"longest", latencies.back()}}},
                                {"batch_per_second", summary(one.batch_per_second)},
                                {"prefill_per_second", summary(one.prefill_per_second)}});
  }
  result["ratios"] = ratios_of(bench);
  result["peak_memory_bytes"] = peak_memory_bytes();
  return result;
}

void run_bench_decode(BenchDecodeFlags& flags) {
  auto& options = flags.options;
  if (!flags.model.empty()) {
    options.source = open_model(flags.model, Verification::kSizes);
    options.model = options.source->config;
  } else {
    set_bench_shape(options.model, flags.shape);
    options.model.core = find_core(flags.core, "--core").name;
    options.types.clear();
    for (const auto& name : split(flags.types))
      options.types.push_back(find_weight_type("--types", name));
    options.kinds = split(flags.kinds);
    for (const auto& kind : options.kinds)
      if (kind != "baseline" && kind != "enhanced")
        throw ConfigError("--kinds", "\"" + kind + "\" is neither baseline nor enhanced" +
                                         did_you_mean(kind, {"baseline", "enhanced"}));
  }
  std::vector<std::int64_t> threads;
  for (const auto& text : split(flags.threads)) {
    const auto number = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (!number.is_number_unsigned() || number > 1024)
      throw ConfigError("--threads", "expected numbers up to 1024, separated by commas, got \"" +
                                         flags.threads + "\"");
    threads.push_back(number);
  }
  const InterruptGuard guard;
  auto runs = ordered_json::array();
  for (const auto count : threads) {
    set_team_threads(count);
    const BusyThreads load(flags.load);
    const auto bench = bench_engine(options);
    end_if_interrupted();
    runs.push_back(bench_json(flags, count, bench));
    if (flags.json) continue;
    if (threads.size() > 1)
      print((runs.size() > 1 ? "\n" : "") + std::to_string(count) + " threads\n");
    print_table(runs.back());
  }
  if (flags.json) print((runs.size() == 1 ? runs.front() : runs).dump() + "\n");
  finish_output();
}

}  // namespace

void add_bench_decode(CLI::App& bench) {
  auto* command = bench.add_subcommand(
      "decode", "Decoding and prefill: baseline and enhanced in every precision, in turn");
  auto flags = std::make_shared<BenchDecodeFlags>();
  const auto number = [&](const char* name, std::int64_t& value, const char* help) {
    command->add_option(name, value, help)->type_name("N")->check(at_least(0));
  };
  command->add_option("--shape", flags->shape, "tiny, small or base, random weights [tiny]")
      ->type_name("NAME");
  command->add_option("--core", flags->core, "rwkv4 or rwkv7, of that shape [rwkv4]")
      ->type_name("NAME");
  command->add_option("--model", flags->model, "a model to measure instead, as in generate")
      ->type_name("PATH");
  command->add_option("--types", flags->types, "precisions [f32,bf16,int8,int4]")
      ->type_name("LIST");
  command->add_option("--kinds", flags->kinds, "models [baseline,enhanced]")->type_name("LIST");
  command->add_option("--rounds", flags->options.rounds, "measured rounds [5]")
      ->type_name("N")
      ->check(at_least(1));
  number("--tokens", flags->options.tokens,
         "tokens decoded per round; 0 = at least 30, for a quarter of a second [0]");
  number("--prompt", flags->options.prompt, "tokens of the prefill; 0 = none [1024]");
  number("--batch", flags->options.batch, "sequences decoded together; 0 = none [16]");
  command
      ->add_option("--threads", flags->threads,
                   "CPU threads, one number or several; 0 = automatic [0]")
      ->type_name("LIST");
  add_bench_load(*command, flags->load);
  command->add_flag("--json", flags->json, "print a JSON object");
  command->callback([command, flags] {
    if (!flags->model.empty())
      refuse_idle(*command, {"--shape", "--core", "--types", "--kinds"},
                  "is of random weights, not of --model");
    run_bench_decode(*flags);
  });
}

}  // namespace rwkvx
