#include "rwkvx/base/version.h"

#include "rwkvx_build_id.h"

namespace rwkvx {

std::string version() { return RWKVX_VERSION; }
std::string build_id() { return std::string(RWKVX_COMMIT) + " " + RWKVX_COMPILER; }
std::string build_libraries() { return RWKVX_LIBRARIES; }

}  // namespace rwkvx
