#include "rwkvx/generate/text_stream.h"

#include <algorithm>

namespace rwkvx {
namespace {

// Bytes of the character that starts with this byte, 0 for a byte that starts none.
std::size_t character_length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

bool continues(unsigned char byte) { return byte >= 0x80 && byte <= 0xbf; }

// Whether the second byte is allowed after the first: no surrogates, nothing overlong or too large.
bool second_allowed(unsigned char lead, unsigned char second) {
  if (lead == 0xe0) return second >= 0xa0 && second <= 0xbf;
  if (lead == 0xed) return second >= 0x80 && second <= 0x9f;
  if (lead == 0xf0) return second >= 0x90 && second <= 0xbf;
  if (lead == 0xf4) return second >= 0x80 && second <= 0x8f;
  return continues(second);
}

// Length of the well-formed beginning of a character at the start of `text`: all of it, or as much
// as is there and right. At least 1.
std::size_t good_prefix(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t length = character_length(byte(0));
  std::size_t good = 1;
  while (good < length && good < text.size() &&
         (good == 1 ? second_allowed(byte(0), byte(1)) : continues(byte(good))))
    ++good;
  return good;
}

}  // namespace

std::size_t complete_utf8(std::string_view text) {
  // Only the last three bytes can belong to a character that is not finished.
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto tail = text.substr(text.size() - back);
    const auto lead = static_cast<unsigned char>(tail[0]);
    if (continues(lead)) continue;
    const std::size_t length = character_length(lead);
    if (length > back && good_prefix(tail) == back) return text.size() - back;
    break;
  }
  return text.size();
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t good = good_prefix(text);
    if (good == character_length(static_cast<unsigned char>(text[0])))
      out += text.substr(0, good);
    else
      out += "\xef\xbf\xbd";
    text.remove_prefix(good);
  }
  return out;
}

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, "");
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return "";
  held_ += bytes;
  std::size_t end = held_.size();
  for (const auto& stop : stops_) {
    const auto found = held_.find(stop);
    if (found == std::string::npos) continue;
    stopped_ = true;
    end = std::min(end, found);
  }
  if (stopped_) {
    const std::string out = valid_utf8(std::string_view(held_).substr(0, end));
    held_.clear();
    return out;
  }
  // Hold back the longest end that may be the beginning of a stop text.
  for (const auto& stop : stops_)
    for (std::size_t length = std::min(stop.size() - 1, held_.size()); length > 0; --length)
      if (held_.ends_with(std::string_view(stop).substr(0, length))) {
        end = std::min(end, held_.size() - length);
        break;
      }
  end = complete_utf8(std::string_view(held_).substr(0, end));
  const std::string out = valid_utf8(std::string_view(held_).substr(0, end));
  held_.erase(0, end);
  return out;
}

std::string TextStream::finish() {
  const std::string_view rest(held_);
  const std::string out = valid_utf8(rest.substr(0, complete_utf8(rest)));
  held_.clear();
  stopped_ = true;
  return out;
}

}  // namespace rwkvx
