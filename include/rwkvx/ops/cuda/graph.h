// A device's work that is recorded once and then started as a whole (a CUDA graph), without what
// starting each kernel takes of the processor.
#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>

namespace rwkvx::cuda {

class Graph {
 public:
  // Records what `work` queues on the device, of which nothing is computed yet. What that reads and
  // writes must stay where it is, but for tensors that `work` makes itself: these lie in memory of
  // the graph, and each start() writes them again. `work` must not wait for the device, and must
  // have run before, so that libraries have what they make at a first call.
  // On the CPU, where the bodies of kernels run, start() is `work` itself.
  // Throws c10::Error where the device cannot record it.
  static std::unique_ptr<Graph> record(c10::Device device, std::function<void()> work);
  virtual ~Graph() = default;
  // Queues all of it.
  virtual void start() = 0;
};

}  // namespace rwkvx::cuda
