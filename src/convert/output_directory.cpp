#include "convert/output_directory.h"

#include <unistd.h>

#include <system_error>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/checkpoint/checkpoint_directory.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

fs::path without_slash(const fs::path& path) {
  const auto clean = path.lexically_normal();
  return clean.has_filename() ? clean : clean.parent_path();
}

void move_to(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error)
    throw FileError(from.string(), "cannot rename to " + to.string() + ": " + error.message());
}

}  // namespace

OutputDirectory::OutputDirectory(fs::path final_path, bool overwrite)
    : final_(without_slash(fs::absolute(final_path))),
      temporary_(final_.string() + ".tmp-" + std::to_string(::getpid())) {
  std::error_code error;
  if (fs::exists(final_, error)) {
    if (!overwrite) throw FileError(final_.string(), "already exists; replace it with --overwrite");
    if (!fs::is_directory(final_, error) ||
        (!fs::is_empty(final_, error) &&
         (!fs::exists(final_ / kConfigFile, error) || fs::exists(final_ / kChecksumsFile, error))))
      throw FileError(final_.string(),
                      "exists and is not a model of the transformers library, so it is not "
                      "replaced; name another path");
  }
  fs::remove_all(temporary_, error);
  fs::create_directories(temporary_, error);
  if (error) throw FileError(temporary_.string(), "cannot make the directory: " + error.message());
}

OutputDirectory::~OutputDirectory() {
  std::error_code ignored;
  if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
}

void OutputDirectory::commit() {
  sync_directory(temporary_);
  std::error_code error;
  const fs::path aside = final_.string() + ".old-" + std::to_string(::getpid());
  const bool replaces = fs::exists(final_, error);
  if (replaces) move_to(final_, aside);
  try {
    move_to(temporary_, final_);
  } catch (const FileError&) {
    if (replaces) fs::rename(aside, final_, error);
    throw;
  }
  temporary_.clear();
  sync_directory(final_.parent_path());
  if (replaces) fs::remove_all(aside, error);
}

}  // namespace rwkvx
