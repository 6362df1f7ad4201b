#include "cli/torch/commands.h"

#include <c10/util/Exception.h>

#include "cli/bench.h"
#include "cli/commands.h"
#include "rwkvx/model/module_model.h"
#include "rwkvx/modules/device.h"

namespace rwkvx {
namespace {

std::string explain(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return torch == nullptr ? error.what() : explain_device_fault(torch->what_without_backtrace());
}

}  // namespace

const TorchPart& torch_part() {
  static const TorchPart part{
      .add_train = add_train_command,
      .add_plan = add_plan_command,
      .add_inspect = add_inspect_command,
      .add_study = add_study_command,
      .add_bench_train = add_bench_train,
      .open_on_device = open_model_on_device,
      .explain = explain,
  };
  return part;
}

}  // namespace rwkvx
