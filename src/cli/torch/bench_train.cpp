#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "rwkvx/base/busy_threads.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/memory.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/statistics.h"
#include "rwkvx/base/version.h"
#include "rwkvx/config/train_config.h"
#include "rwkvx/cores/core.h"
#include "rwkvx/kernels/simd.h"
#include "rwkvx/model/training_pass.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/matrix_products.h"
#include "rwkvx/train/train_bench.h"

extern char** environ;

namespace rwkvx {

namespace {

using nlohmann::ordered_json;

struct BenchTrainFlags {
  std::string shape = "tiny", config, only, device;
  std::vector<std::string> set;
  std::int64_t ctx_len = 0, batch_size = 0, threads = 0, rounds = 5, load = 0;
  bool json = false, reference = false, no_memory = false;
};

TrainConfig bench_config(const BenchTrainFlags& flags) {
  nlohmann::json json = nlohmann::json::object();
  if (!flags.config.empty()) json = read_json_file(flags.config);
  set_by_paths<TrainConfig>(json, flags.set, flags.config.empty() ? "" : flags.config + ": ");
  if (!json.contains("data")) json["data"]["train"] = {"none, the tokens are random"};
  const auto where = flags.config.empty() ? "--set " : flags.config + ": ";
  auto config = config_from_json<TrainConfig>(json, where);
  check_model(config.model, where + "model");
  if (flags.config.empty()) {
    config.train.ctx_len = 512;
    config.train.batch_size = set_bench_shape(config.model, flags.shape);
  } else {
    config.model.vocab_size = expected_vocab_size(config);
  }
  // Another context takes as many tokens per batch, unless the batch is given too.
  const auto tokens = config.train.batch_size * config.train.ctx_len;
  if (flags.ctx_len > 0) {
    config.train.ctx_len = flags.ctx_len;
    config.train.batch_size = std::max<std::int64_t>(1, tokens / flags.ctx_len);
  }
  if (flags.batch_size > 0) config.train.batch_size = flags.batch_size;
  if (flags.threads > 0) config.train.threads = flags.threads;
  if (!flags.device.empty()) config.train.device = flags.device;
  config.model.check("model");
  return config;
}

// The largest size in bytes, resident or on the device, of a process of its own that only does
// `kind`.
double peak_memory_alone(const BenchTrainFlags& flags, const std::string& kind) {
  std::vector<std::string> args = {"rwkvx",       "bench",  "train",    "--only", kind,
                                   "--no-memory", "--json", "--rounds", "1"};
  if (flags.config.empty())
    args.insert(args.end(), {"--shape", flags.shape});
  else
    args.insert(args.end(), {"--config", flags.config});
  for (const auto& one : flags.set) args.insert(args.end(), {"--set", one});
  for (const auto& [name, value] :
       {std::pair{"--ctx-len", flags.ctx_len}, std::pair{"--batch-size", flags.batch_size},
        std::pair{"--threads", flags.threads}})
    if (value > 0) args.insert(args.end(), {name, std::to_string(value)});
  if (!flags.device.empty()) args.insert(args.end(), {"--device", flags.device});
  std::vector<char*> argv;
  for (auto& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  int ends[2] = {};
  if (::pipe2(ends, O_CLOEXEC) != 0) return 0;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t child = 0;
  const int failed = posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string text;
  char piece[4096];
  for (ssize_t got; failed == 0 && (got = ::read(ends[0], piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = 0;
  if (failed != 0 || ::waitpid(child, &status, 0) != child || status != 0) return 0;
  const auto result = nlohmann::json::parse(text);
  const double on_device = result["series"][0].value("device_memory_bytes", 0.0);
  return on_device > 0 ? on_device : result.value("process_peak_memory_bytes", 0.0);
}

double spread(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return (*high - *low) / median(values);
}

ordered_json summary_of(const TrainBenchSeries& one, double tokens) {
  ordered_json row = {{"kind", one.kind},
                      {"tokens_per_second", tokens / median(one.seconds)},
                      {"seconds", one.seconds},
                      {"median_seconds", median(one.seconds)},
                      {"spread", spread(one.seconds)}};
  if (one.peak_memory_bytes > 0) row["peak_memory_bytes"] = one.peak_memory_bytes;
  if (one.device_memory_bytes > 0) row["device_memory_bytes"] = one.device_memory_bytes;
  double total = 0, counted = 0;
  for (const double value : one.seconds) total += value;
  auto& shares = row["operators"] = ordered_json::object();
  for (const auto& [name, seconds] : one.operators) {
    shares[name] = seconds / total;
    counted += seconds;
  }
  if (!one.operators.empty()) shares["other"] = (total - counted) / total;
  return row;
}

void print_table(const ordered_json& result) {
  char line[160];
  std::snprintf(line, sizeof line, "%-16s %12s %8s %10s\n", "", "tokens/s", "spread", "peak");
  print(line);
  for (const auto& row : result["series"]) {
    std::snprintf(line, sizeof line, "%-16s %12s %7.1f%% %10s\n",
                  row["kind"].get<std::string>().c_str(),
                  count_text(row["tokens_per_second"].get<std::int64_t>()).c_str(),
                  100 * row["spread"].get<double>(),
                  row.contains("peak_memory_bytes")
                      ? bytes_text(row["peak_memory_bytes"].get<double>()).c_str()
                      : "");
    print(line);
  }
  for (const auto& item : result["ratios"].items()) {
    std::snprintf(line, sizeof line, "%-40s %6.3f\n", item.key().c_str(),
                  item.value().get<double>());
    print(line);
  }
  print("\nshare of the time\n");
  for (const auto& row : result["series"])
    for (const auto& item : row["operators"].items()) {
      std::snprintf(line, sizeof line, "  %-14s %-20s %5.1f%%\n",
                    row["kind"].get<std::string>().c_str(), item.key().c_str(),
                    100 * item.value().get<double>());
      print(line);
    }
}

void run_bench_train(const BenchTrainFlags& flags) {
  const auto config = bench_config(flags);
  TrainBenchOptions options;
  options.rounds = flags.rounds;
  if (flags.reference) options.kinds.push_back("reference");
  if (!config.model.shift.enabled()) std::erase(options.kinds, "enhanced");
  if (!flags.only.empty()) {
    const std::vector<std::string> known(std::begin(kTrainBenchKinds), std::end(kTrainBenchKinds));
    if (std::find(known.begin(), known.end(), flags.only) == known.end())
      throw ConfigError("--only", "there is no \"" + flags.only + "\" to measure" +
                                      did_you_mean(flags.only, known));
    options.kinds = {flags.only};
  }
  if (const auto note = slow_training_note(config.model);
      !note.empty() && find_device(config.train.device, "--device").is_cpu() &&
      std::ranges::find(options.kinds, "enhanced") != options.kinds.end())
    log_warning("model.shift: " + note + "; \"enhanced\" is measured so");
  std::vector<TrainBenchSeries> series;
  {
    const BusyThreads load(flags.load);
    series = bench_training(config, options);
  }
  end_if_interrupted();
  if (!flags.no_memory)
    for (auto& one : series)
      if (one.kind != "matrix_products") one.peak_memory_bytes = peak_memory_alone(flags, one.kind);

  const auto tokens = static_cast<double>(config.train.batch_size * config.train.ctx_len);
  ordered_json result = {{"version", version()},
                         {"shape", flags.config.empty() ? flags.shape : flags.config},
                         {"batch_size", config.train.batch_size},
                         {"ctx_len", config.train.ctx_len},
                         {"device", config.train.device},
                         {"threads", config.train.threads},
                         {"threads_used", bench_threads(config.train.threads)},
                         {"load", flags.load},
                         {"instruction_set", simd_name()},
                         {"mkl_avx512", mkl_takes_avx512()},
                         {"model", config_to_json(config.model)},
                         {"series", ordered_json::array()},
                         {"ratios", ordered_json::object()},
                         {"process_peak_memory_bytes", peak_memory_bytes()}};
  for (const auto& one : series) result["series"].push_back(summary_of(one, tokens));
  const auto seconds = [&](const std::string& kind) {
    for (const auto& one : series)
      if (one.kind == kind) return median(one.seconds);
    return 0.0;
  };
  const auto ratio = [&](const char* name, double above, double below) {
    if (above > 0 && below > 0) result["ratios"][name] = above / below;
  };
  ratio("baseline speed / matrix products", seconds("matrix_products"), seconds("baseline"));
  ratio("enhanced time / baseline time", seconds("enhanced"), seconds("baseline"));
  ratio("enhanced speed / reference modules", seconds("reference"), seconds("enhanced"));
  if (flags.json)
    print(result.dump() + "\n");
  else
    print_table(result);
  finish_output();
}

}  // namespace

void add_bench_train(CLI::App& bench) {
  auto* command = bench.add_subcommand("train", kBenchTrainDescription);
  auto flags = std::make_shared<BenchTrainFlags>();
  command->add_option("--shape", flags->shape, "tiny, small or base [tiny]")->type_name("NAME");
  command->add_option("--config", flags->config, "model and batch of a training config instead")
      ->type_name("FILE");
  command->add_option("--set", flags->set, "override one setting; may be repeated")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  command->add_option("--ctx-len", flags->ctx_len, "tokens of a sequence [512]")
      ->type_name("N")
      ->check(at_least(1));
  command->add_option("--batch-size", flags->batch_size, "sequences; else as many tokens as usual")
      ->type_name("N")
      ->check(at_least(1));
  command->add_option("--threads", flags->threads, "CPU threads; 0 = automatic [0]")
      ->type_name("N")
      ->check(at_least(0));
  command->add_option("--device", flags->device, "auto, cpu or cuda:N, instead of train.device")
      ->type_name("NAME");
  add_bench_load(*command, flags->load);
  command->add_option("--rounds", flags->rounds, "measured rounds [5]")
      ->type_name("N")
      ->check(at_least(1));
  add_old_name(*command, "--repeats", "--rounds");
  command->add_flag("--reference", flags->reference, "measure the reference modules too");
  command
      ->add_option("--only", flags->only,
                   "one of baseline, enhanced, matrix_products, reference alone")
      ->type_name("KIND");
  command->add_flag("--no-memory", flags->no_memory, "do not measure the peak memory");
  command->add_flag("--json", flags->json, "print a JSON object");
  command->callback([command, flags] {
    if (!flags->config.empty())
      refuse_idle(*command, {"--shape"}, "is the model's, which --config gives");
    run_bench_train(*flags);
  });
}

}  // namespace rwkvx
