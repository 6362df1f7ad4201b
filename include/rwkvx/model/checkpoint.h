// Models to and from files: the weights of a checkpoint directory, or of a file of other tools.
#pragma once

#include <filesystem>
#include <vector>

#include "rwkvx/checkpoint/checkpoint_config.h"
#include "rwkvx/cores/names.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/formats/tensor_file.h"
#include "rwkvx/model/rwkv.h"

namespace rwkvx {

struct ModelSource;

// Copies a file's tensors into the model. Throws CheckpointError naming the first tensor that is
// missing, of another shape (both shapes) or unknown. Where `allow_new_shift`, tensors of the shift
// may be missing and keep their values: an RWKV-4 checkpoint becomes the start of an enhanced
// model.
void load_weights(RwkvImpl& model, const TensorFile& file, bool allow_new_shift = false);

// A model with the weights of a source, or of what open_model() opens. Throws CheckpointError and
// FileError.
Rwkv load_model(const ModelSource& source);
Rwkv load_model(const std::filesystem::path& path);

// Contiguous tensors to write: views of their own memory, or of a copy of what is on a GPU.
struct HostTensors {
  std::vector<at::Tensor> kept;
  std::vector<TensorView> views;
  void add(const std::string& name, const at::Tensor& tensor);
};

// The model's weights in the order of describe_parameters().
HostTensors weight_views(const RwkvImpl& model);

// A tensor (contiguous, on the CPU) as a view of its own memory.
TensorView view_of(const std::string& name, const at::Tensor& tensor);
// A copy of a view's content as a tensor of the same dtype.
at::Tensor tensor_of(const TensorView& view);

}  // namespace rwkvx
