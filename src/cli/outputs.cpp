#include "cli/outputs.h"

#include <system_error>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"

namespace rwkvx {

namespace fs = std::filesystem;

void refuse_model_file(const std::string& option, const fs::path& output, const fs::path& model) {
  refuse_same_file(option, output, {{"--model", model}});
  std::error_code error;
  if (output.empty() || !fs::exists(output, error) || !fs::is_directory(model, error)) return;
  // Of a run the parts that training wrote, so that texts may lie beside them.
  std::vector<fs::path> parts = {model};
  if (fs::is_directory(model / "checkpoints", error))
    parts = {model / "config.json", model / "log.jsonl", model / "checkpoints", model / "tokenizer",
             model / "data"};
  for (const auto& part : parts) {
    refuse_same_file(option, output, {{"--model", part}});
    fs::recursive_directory_iterator it(part, error);
    for (const fs::recursive_directory_iterator end; !error && it != end; it.increment(error))
      if (it->is_regular_file(error)) refuse_same_file(option, output, {{"--model", it->path()}});
  }
}

void check_output(const std::string& option, const fs::path& output,
                  std::initializer_list<std::pair<std::string, fs::path>> inputs,
                  const fs::path& model) {
  refuse_same_file(option, output, inputs);
  refuse_model_file(option, output, model);
  check_writable(output);
}

void refuse_same_outputs(const std::vector<std::pair<std::string, fs::path>>& outputs) {
  std::error_code error;
  for (auto a = outputs.begin(); a != outputs.end(); ++a)
    for (auto b = outputs.begin(); b != a; ++b) {
      if (a->second.empty() || b->second.empty() || fs::is_character_file(a->second, error))
        continue;
      if (fs::weakly_canonical(fs::absolute(a->second), error) ==
              fs::weakly_canonical(fs::absolute(b->second), error) ||
          same_file(a->second, b->second))
        throw ConfigError(a->first, a->second.string() + " is the file of " + b->first +
                                        " too; choose another output");
    }
}

}  // namespace rwkvx
