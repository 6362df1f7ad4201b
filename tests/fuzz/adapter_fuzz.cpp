// Adapters' files: an Error, or an adapter that is right in itself and fits a model or is refused
// for it.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/adapters/apply.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "support/adapters.h"
#include "support/pth_builder.h"

using namespace rwkvx;

namespace {

ModelConfig model(const char* core) {
  ModelConfig config;
  config.core = core;
  config.n_layer = 1, config.n_embd = 8, config.vocab_size = 4;
  if (config.core == "rwkv7") config.head_size = 8;
  config.shift.kind = ShiftKind::kNone;
  return config;
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.safetensors";
  std::vector<std::string> seeds{""};
  const auto rwkv4 = model("rwkv4"), rwkv7 = model("rwkv7");
  for (const auto& adapter :
       {test::random_lora(rwkv4, 2, 4, {"att.key"}), test::random_state(rwkv4),
        test::random_state(rwkv7), test::random_shift(rwkv4)}) {
    write_adapter(path, adapter);
    seeds.push_back(read_file(path));
  }
  seeds.push_back(seeds.back().substr(0, seeds.back().size() - 8));
  write_peft(path, test::random_lora(rwkv4, 2, 4, {"att.key"}));
  seeds.push_back(read_file(path));
  test::PthBuilder tuned;
  tuned.add("blocks.0.att.time_state", {1, 8, 8});
  seeds.push_back(tuned.build());
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto path = folder.path() / "adapter";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  try {
    const auto adapter = read_adapter(path);
    if (adapter.parameters() <= 0 || adapter.hash().size() != 32) std::abort();
    for (const auto* core : {"rwkv4", "rwkv7"}) {
      try {
        const auto base = model(core);
        check_adapter(adapter, base, "adapter");
        if (adapter.kind != AdapterKind::kState) continue;
        const auto rows = describe_state(base);
        const auto state = initial_state(adapter, rows, "adapter");
        for (std::size_t i = 0; i < rows.size(); ++i)
          if (static_cast<std::int64_t>(state.values[i].size()) != rows[i].count()) std::abort();
      } catch (const Error&) {
      }
    }
  } catch (const Error&) {
  }
  return 0;
}
