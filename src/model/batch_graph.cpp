#include "model/batch_graph.h"

#include <c10/util/Exception.h>

#include "rwkvx/base/error.h"

namespace rwkvx {

at::Tensor BatchGraph::run(const BatchForm& form, const at::Tensor& kept,
                           const std::function<at::Tensor()>& work) {
  alike_ = form == last_ ? alike_ + 1 : 1;
  last_ = form;
  if (graph_ == nullptr || form != recorded_) {
    if (alike_ <= before_) return work();
    record(form, kept, work);
  }
  graph_->start();
  ++started_;
  return result_;
}

void BatchGraph::record(const BatchForm& form, const at::Tensor& kept,
                        const std::function<at::Tensor()>& work) {
  graph_.reset();
  result_ = at::Tensor();
  kept_ = kept;
  try {
    graph_ = cuda::Graph::record(device_, [this, work] { result_ = work(); });
  } catch (const c10::Error& error) {
    throw Error("CUDA graph", std::string("what a batch does could not be recorded (") +
                                  error.what_without_backtrace() +
                                  "); with train.cuda_graph = false it is not");
  }
  recorded_ = form;
}

}  // namespace rwkvx
