// The .pth files of PyTorch, to write; open_tensor_file() reads them.
#pragma once

#include <filesystem>
#include <span>

#include "rwkvx/formats/tensor.h"

namespace rwkvx {

// Writes a state dict atomically, as torch.save does since PyTorch 1.6: a zip archive of stored
// entries, each storage at a multiple of 64 bytes, and the pickle (protocol 2) of an OrderedDict.
// `torch.load(path, weights_only=True)` gives the tensors in the given order. The same input gives
// the same bytes. Throws CheckpointError for two tensors of one name, for an unsigned type that
// PyTorch has no storage of and for bytes that do not fit a shape; FileError where the disk
// refuses.
void write_pth(const std::filesystem::path& path, std::span<const PendingTensor> tensors);

}  // namespace rwkvx
