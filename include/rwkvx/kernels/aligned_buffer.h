// Memory for numbers that vectors are loaded from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace rwkvx {

// Numbers at an address that is a multiple of two cache lines; grows, never shrinks. What was in it
// is lost when it grows.
template <class Value>
class AlignedBuffer {
 public:
  Value* get() const { return data_.get(); }
  void reserve(std::int64_t count) {
    if (count <= size_) return;
    constexpr std::size_t kAlign = 128;
    const auto bytes = static_cast<std::size_t>(count) * sizeof(Value);
    data_.reset(
        static_cast<Value*>(std::aligned_alloc(kAlign, (bytes + kAlign - 1) / kAlign * kAlign)));
    size_ = count;
    if (data_ == nullptr) throw std::bad_alloc();
  }

 private:
  struct Free {
    void operator()(Value* memory) const { std::free(memory); }
  };
  std::unique_ptr<Value[], Free> data_;
  std::int64_t size_ = 0;
};

}  // namespace rwkvx
