#include "eval/prompt_space.h"

#include <cstdint>
#include <string>
#include <vector>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {

void move_space(LikelihoodRequest& request) {
  std::vector<std::uint32_t> codes;
  decode_utf8(request.prompt, codes);
  std::size_t kept = codes.size();
  while (kept > 0 && unicode::is_space(codes[kept - 1])) --kept;
  std::string space;
  for (std::size_t i = kept; i < codes.size(); ++i) append_utf8(codes[i], space);
  request.prompt.resize(request.prompt.size() - space.size());
  for (auto& text : request.continuations) text.insert(0, space);
}

}  // namespace rwkvx
