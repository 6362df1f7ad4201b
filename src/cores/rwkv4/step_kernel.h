// The WKV recurrence of the engine, on plain float32 arrays.
#pragma once

#include <cstdint>

namespace rwkvx {

// The recurrence over T tokens: y <- sigmoid(r) wkv; k, v, r, y are (T, channels), state (3,
// channels) has the rows p, q, o. Any decay and bonus.
struct WkvRows {
  std::int64_t tokens = 0, channels = 0;
  const float* w = nullptr;  // (channels), decay of one step in log space
  const float* u = nullptr;  // (channels), bonus in log space
  const float* k = nullptr;
  const float* v = nullptr;
  const float* r = nullptr;
  float* state = nullptr;
  float* y = nullptr;
};
void wkv_rows(const WkvRows& call, std::int64_t first, std::int64_t last);

}  // namespace rwkvx
