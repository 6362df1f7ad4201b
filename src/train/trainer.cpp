#include "rwkvx/train/trainer.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string_view>

#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/processors.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/modules/device.h"
#include "rwkvx/ops/threads.h"
#include "train/run.h"

namespace rwkvx {
namespace {

[[noreturn]] void out_of_memory(const TrainConfig& config, const std::string& asked) {
  throw Error("memory",
              "not enough" + (asked.empty() ? "" : " for another " + asked) + " for batches of " +
                  std::to_string(config.train.batch_size) + " x " +
                  std::to_string(config.train.ctx_len) +
                  " tokens; lower train.batch_size (train.grad_accum_steps makes up for it), "
                  "train.ctx_len, model.n_embd or model.n_layer, or set "
                  "train.grad_checkpoint to \"block\"");
}

// Does the work; where memory runs out, the error says which settings decide how much is needed.
template <class Work>
auto with_memory_advice(const TrainConfig& config, const Work& work) {
  try {
    return work();
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    constexpr std::string_view kAsked = "ried to allocate ";
    const auto asked = text.find(kAsked);
    if (asked == std::string::npos) throw;
    const auto begin = asked + kAsked.size();
    const auto end = std::min(text.find_first_of(".\n", begin), text.size());
    out_of_memory(config, text.substr(begin, end - begin));
  } catch (const std::bad_alloc&) {
    out_of_memory(config, "");
  } catch (const std::length_error&) {
    out_of_memory(config, "");
  }
}

// Beside the checkpoints of a run that a launcher may start again: which job it is of.
constexpr char kJobFile[] = "launched-by";

// A job that its launcher started again goes on with the run that it began.
TrainOptions resuming_after_restart(const TrainConfig& config, const TrainOptions& given) {
  auto options = given;
  const auto file = std::filesystem::path(config.train.output) / kJobFile;
  const auto& job = given.ranks.restarted_job;
  std::error_code ignored;
  if (given.ranks.restarts > 0 && !job.empty() && std::filesystem::exists(file, ignored) &&
      read_file(file) == job + "\n") {
    options.resume = true;
    options.overwrite = true;  // where it had not saved yet
  }
  return options;
}

void note_job(const TrainConfig& config, const RankPlace& place) {
  if (!place.restarted_job.empty())
    write_file(std::filesystem::path(config.train.output) / kJobFile, place.restarted_job + "\n");
}

// Of `wanted` threads; 0: of the processors, a share for each process on this machine.
std::int64_t threads_of_rank(std::int64_t wanted, const RankPlace& place) {
  if (wanted > 0) return wanted;
  auto known = processors();
  // torchrun sets this for all processes where nobody has.
  if (place.launcher == "torchrun" && place.local_size > 1 && known.wish == "1") known.wish = "";
  if (!known.wish.empty()) return choose_threads(0, known).threads;
  // Where the launcher has bound each process to processors of its own, they are its share.
  auto machine = known;
  machine.allowed = machine.present;
  const auto share =
      std::max<std::int64_t>(1, choose_threads(0, machine).threads / place.local_size);
  return std::min(share, choose_threads(0, known).threads);
}

// Each process of a machine has a GPU of its own, that of its number.
std::string device_of_rank(const std::string& setting, const RankPlace& place) {
  const std::string where = "train.device";
  const auto first = find_device(setting, where);
  if (first.is_cpu()) return "cpu";
  const auto kind = c10::DeviceTypeName(first.type(), /*lower_case=*/true);
  if (setting.find(':') != std::string::npos && place.local_size > 1)
    throw ConfigError(where, "each of the " + std::to_string(place.local_size) +
                                 " processes of this machine takes the " + kind +
                                 " device of its own number; set it to " + kind);
  if (place.local_size == 1) return first.str();
  return find_device(kind + ":" + std::to_string(place.local_rank), where).str();
}

void check_ranks_setting(const TrainConfig& config, const RankPlace& place) {
  const auto& t = config.train;
  const auto rows = t.batch_size * t.grad_accum_steps;
  if (config.data.format == DataFormat::kText && rows < place.size)
    throw ConfigError("train.batch_size", std::to_string(rows) +
                                              " sequences of a step (batch_size x "
                                              "grad_accum_steps) cannot be shared out to " +
                                              std::to_string(place.size) +
                                              " processes; raise it or start fewer");
}

TrainResult train_with_ranks(const TrainConfig& config, const TrainOptions& given) {
  const auto& place = given.ranks;
  set_threads(threads_of_rank(config.train.threads, place));
  const auto ranks = Ranks::join(place, config.train.timeout);
  auto options = given;
  std::optional<Place> folder;
  std::unique_ptr<Run> run;
  try {
    const auto device = device_of_rank(config.train.device, place);
    if (place.rank == 0) {
      check_ranks_setting(config, place);
      options = resuming_after_restart(config, given);
      folder.emplace(config.train.output, options);
    } else {
      options.quiet = true;
      set_log_level(LogLevel::kOff);
      ranks->wait_prepared();
      folder.emplace(config.train.output, Place::Reader());
    }
    run = std::make_unique<Run>(config, *folder, options.quiet, ranks.get(), device);
    if (place.rank == 0) note_job(config, place);
    const auto result = run->train(options);
    ranks->leave();
    return result;
  } catch (const std::exception& error) {
    // Sums that were begun may still be written to its memory: it stays, as the process ends.
    [[maybe_unused]] const auto* kept = run.release();
    // Where several ranks fail, or one because of another, one line says so.
    const auto* ours = dynamic_cast<const Error*>(&error);
    if (ranks->tell_failure(error.what()))
      throw ShownElsewhere(error.what(), ours == nullptr ? 1 : ours->exit_status());
    throw;
  }
}

}  // namespace

TrainResult train(const TrainConfig& config, const TrainOptions& options) {
  const InterruptGuard guard;
  return with_memory_advice(config, [&] {
    if (options.ranks.size > 1) return train_with_ranks(config, options);
    set_threads(config.train.threads);
    const auto own = resuming_after_restart(config, options);
    Place place(config.train.output, own);
    Run run(config, place, own.quiet);
    note_job(config, own.ranks);
    return run.train(own);
  });
}

TrainEstimate estimate_training(const TrainConfig& config, bool quiet) {
  const InterruptGuard guard;
  return with_memory_advice(config, [&] {
    set_threads(config.train.threads);
    Place place(config.train.output);
    return Run(config, place, quiet).estimate();
  });
}

std::string explain_parameters(const TrainConfig& config) {
  auto model = config.model;
  model.vocab_size = expected_vocab_size(config);
  std::string text;
  char line[256];
  const auto add = [&](const std::string& name, const std::string& shape, const std::string& init,
                       const std::string& rate, const std::string& decay) {
    std::snprintf(line, sizeof line, "%-36s %-14s %-34s %5s %7s\n", name.c_str(), shape.c_str(),
                  init.c_str(), rate.c_str(), decay.c_str());
    text += line;
  };
  add("parameter", "shape", "initial value", "rate", "decay");
  char number[2][32];
  for (const auto& row : describe_parameters(model)) {
    const bool frozen = std::ranges::any_of(
        config.train.freeze, [&](const auto& pattern) { return means_parameter(pattern, row); });
    if (frozen)
      std::snprintf(number[0], sizeof number[0], "none");
    else
      std::snprintf(number[0], sizeof number[0], "%gx", learning_rate_scale(row, config.train));
    std::snprintf(number[1], sizeof number[1], "%g", weight_decay_of(row, config.train));
    add(row.name, shape_text(row.shape), row.start.text, number[0], number[1]);
  }
  return text + count_text(parameter_count(model)) + " parameters\n";
}

}  // namespace rwkvx
