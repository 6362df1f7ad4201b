// Checks of the files that a command is going to write.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace rwkvx {

// Throws ConfigError where the output named by `option` is one of the files of a model: a weights
// file, what lies in a checkpoint, or what training wrote into a run. `model` is what --model
// names.
void refuse_model_file(const std::string& option, const std::filesystem::path& output,
                       const std::filesystem::path& model);

// The checks of one output before any work: it is none of the inputs, no file of the model, and can
// be written.
void check_output(const std::string& option, const std::filesystem::path& output,
                  std::initializer_list<std::pair<std::string, std::filesystem::path>> inputs,
                  const std::filesystem::path& model);

// Throws ConfigError where two outputs, each given as (option, path), have one name or are one
// file.
void refuse_same_outputs(const std::vector<std::pair<std::string, std::filesystem::path>>& outputs);

}  // namespace rwkvx
