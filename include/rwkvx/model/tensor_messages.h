// What is said of tensors that do not make up a model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace rwkvx {

// Of a tensor that a model needs and a file lacks, and of one that no model has: with the likely
// cause, where the name shows one.
std::string missing_tensor(std::string_view name, std::span<const std::int64_t> shape);
std::string unknown_tensor(std::string_view name);

}  // namespace rwkvx
