#include "rwkvx/modules/block.h"

#include <torch/types.h>

namespace rwkvx {
namespace {

// A name on the way to parameters.
class PartImpl : public torch::nn::Module {};

}  // namespace

at::Tensor BlockContext::dropped(const at::Tensor& x) const {
  return dropout > 0 ? torch::dropout(x, dropout, /*train=*/true) : x;
}

at::Tensor BlockContext::linear(const at::Tensor& x, const at::Tensor& matrix) const {
  return rwkvx::linear(x, matrix, integers);
}

std::vector<at::Tensor> register_rows(torch::nn::Module& module,
                                      const std::vector<ParameterRow>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) {
    torch::nn::Module* at = &module;
    std::string_view rest = row.name;
    for (auto dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
      const std::string name(rest.substr(0, dot));
      const auto known = at->named_children();
      at = known.contains(name) ? known[name].get()
                                : at->register_module(name, std::make_shared<PartImpl>()).get();
      rest = rest.substr(dot + 1);
    }
    tensors.push_back(at->register_parameter(std::string(rest), torch::zeros(row.shape)));
  }
  return tensors;
}

BlockImpl::BlockImpl(const std::vector<ParameterRow>& rows) {
  const auto tensors = register_rows(*this, rows);
  for (std::size_t i = 0; i < rows.size(); ++i) by_name_.emplace_back(rows[i].name, tensors[i]);
}

const at::Tensor& BlockImpl::parameter(const std::string& name) const {
  for (const auto& [known, tensor] : by_name_)
    if (known == name) return tensor;
  TORCH_CHECK(false, "the table of parameters has no ", name);
}

}  // namespace rwkvx
