// Temporary files without a name, for what is read more than once.
#pragma once

#include <string>
#include <string_view>

#include "rwkvx/base/descriptor.h"

namespace rwkvx {

// A new file in the directory for temporary files, gone with its descriptor. Throws FileError.
Descriptor make_spool();
// Appends bytes; `name` is what they come from, for FileError.
void write_spool(const Descriptor& spool, std::string_view bytes, const std::string& name);
// What opens a spool again, from its beginning.
std::string spool_path(const Descriptor& spool);

}  // namespace rwkvx
