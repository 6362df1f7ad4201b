#pragma once

#include <string>

namespace rwkvx {

std::string version();   // "0.1.0"
std::string build_id();  // the commit and compiler this binary was made from

}  // namespace rwkvx
