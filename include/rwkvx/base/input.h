// Inputs that a command line names: files, pipes and standard input alike.
#pragma once

#include <filesystem>
#include <string>

#include "rwkvx/base/descriptor.h"

namespace rwkvx {

// An input that can be opened and mapped any number of times. "-" is standard input. A regular file
// is itself; a pipe, a terminal or a device is read to its end into a temporary file that has no
// name and goes with the object. Throws FileError where it cannot be read, Interrupted where a
// signal came meanwhile.
class Input {
 public:
  explicit Input(const std::string& name);
  const std::filesystem::path& path() const { return path_; }
  // What messages call it: the name as given, "standard input" for "-".
  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::filesystem::path path_;
  Descriptor spool_;  // the temporary file
};

}  // namespace rwkvx
