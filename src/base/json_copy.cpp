#include "rwkvx/base/json_copy.h"

namespace rwkvx {

std::string json_copy(std::string_view value) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(value.size());
  bool inside = false, escaped = false;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      out += inside ? std::string("\\u00") + kDigits[byte >> 4] + kDigits[byte & 15] : " ";
    } else {
      out += c;
      if (c == '"' && !escaped) inside = !inside;
    }
    escaped = inside && !escaped && c == '\\';
  }
  return out;
}

}  // namespace rwkvx
