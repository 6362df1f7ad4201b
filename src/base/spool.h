// Temporary files without a name, for what is read more than once.
#pragma once

#include <string>
#include <string_view>

namespace rwkvx {

// A new file in the directory for temporary files, gone with its descriptor. Throws FileError.
int make_spool();
// Appends bytes; `name` is what they come from, for FileError.
void write_spool(int spool, std::string_view bytes, const std::string& name);
// What opens a spool again, from its beginning.
std::string spool_path(int spool);

}  // namespace rwkvx
