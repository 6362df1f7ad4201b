#include "rwkvx/ops/cuda/graph.h"

#include <c10/util/Exception.h>

#ifdef RWKVX_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>
#endif

namespace rwkvx::cuda {
namespace {

class WorkItself : public Graph {
 public:
  explicit WorkItself(std::function<void()> work) : work_(std::move(work)) {}
  void start() override { work_(); }

 private:
  std::function<void()> work_;
};

#ifdef RWKVX_CUDA
// Where this thread records: of the default stream nothing can be. Always the same, as libraries
// keep memory for each stream that they have seen.
c10::cuda::CUDAStream stream_aside(c10::Device device) {
  thread_local std::optional<c10::cuda::CUDAStream> stream;
  if (!stream || stream->device() != device)
    stream = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index());
  return *stream;
}

class Recorded : public Graph {
 public:
  Recorded(c10::Device device, const std::function<void()>& work) : device_(device) {
    const c10::cuda::CUDAGuard guard(device);
    c10::cuda::device_synchronize();
    const c10::cuda::CUDAStreamGuard aside(stream_aside(device));
    // Other threads go on using the device meanwhile.
    graph_.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      work();
    } catch (...) {
      end_in_vain();
      throw;
    }
    graph_.capture_end();
  }
  // What was started comes to its end first, as it is in the graph's memory.
  ~Recorded() override {
    try {
      const c10::cuda::CUDAGuard guard(device_);
      c10::cuda::device_synchronize();
    } catch (const c10::Error&) {  // has been told where it happened
    }
  }
  void start() override {
    const c10::cuda::CUDAGuard guard(device_);
    graph_.replay();
  }

 private:
  // So that the device's memory is no longer the graph's; that it has no graph now is known.
  void end_in_vain() {
    try {
      graph_.capture_end();
    } catch (const c10::Error&) {
    }
  }
  c10::Device device_;
  at::cuda::CUDAGraph graph_;
};
#endif

}  // namespace

std::unique_ptr<Graph> Graph::record(c10::Device device, std::function<void()> work) {
  if (device.is_cpu()) return std::make_unique<WorkItself>(std::move(work));
#ifdef RWKVX_CUDA
  return std::make_unique<Recorded>(device, work);
#else
  TORCH_CHECK(false, "rwkvx was built without CUDA kernels, got the device ", device);
#endif
}

}  // namespace rwkvx::cuda
