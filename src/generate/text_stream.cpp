#include "rwkvx/generate/text_stream.h"

#include <algorithm>

#include "rwkvx/base/utf8.h"

namespace rwkvx {

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
    const std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, end));
    held_.erase(0, end);
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
  const std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, end));
  held_.erase(0, end);
  return out;
}

std::string TextStream::finish() {
  if (stopped_) return "";
  const std::string_view rest(held_);
  const std::string out = replace_invalid_utf8(rest.substr(0, complete_utf8(rest)));
  held_.clear();
  stopped_ = true;
  return out;
}

}  // namespace rwkvx
