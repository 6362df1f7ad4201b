// JSON values taken over from one line into another.
#pragma once

#include <string>
#include <string_view>

namespace rwkvx {

// A value that JsonLine found, as it was written, so that numbers keep all their digits; control
// characters in its strings, which strict readers refuse, are escaped.
std::string json_copy(std::string_view value);

}  // namespace rwkvx
