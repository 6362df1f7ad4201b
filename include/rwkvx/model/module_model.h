// A model to generate with in LibTorch's modules, as it computes on a GPU.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "rwkvx/generate/language_model.h"

namespace rwkvx {

// On any device.
std::unique_ptr<LanguageModel> open_module_model(const TensorFile& file, const ModelConfig& config,
                                                 c10::Device device);

// The same on the device that a setting names (modules/device.h); null where that is the CPU, which
// the engine serves better. For open_on_device of generate/language_model.h.
std::unique_ptr<LanguageModel> open_model_on_device(const TensorFile& file,
                                                    const ModelConfig& config,
                                                    const std::string& device,
                                                    const std::string& where);

}  // namespace rwkvx
