// The few kinds of error rwkvx reports, and the exit status each one ends the program with.
#pragma once

#include <stdexcept>
#include <string>

namespace rwkvx {

// Something that stops the work. `where` is something the reader can open or type
// ("train.json: model.n_embd", "corpus.txt:412"); `reason` says what was wanted, what was found
// and, where it is obvious, the remedy. One line, no full stop at the end.
class Error : public std::runtime_error {
 public:
  Error(const std::string& where, const std::string& reason);
  // The status the program ends with: 1 unless a derived kind says otherwise.
  virtual int exit_status() const noexcept { return 1; }
};

// Wrong flags or settings: exit status 2.
class ConfigError : public Error {
 public:
  using Error::Error;
  int exit_status() const noexcept override { return 2; }
};

// Text, pairs, tokenizers or token files that cannot be used: exit status 3.
class DataError : public Error {
 public:
  using Error::Error;
  int exit_status() const noexcept override { return 3; }
};

// A checkpoint that is incomplete, damaged or of another shape: exit status 3.
class CheckpointError : public Error {
 public:
  using Error::Error;
  int exit_status() const noexcept override { return 3; }
};

// A file that cannot be opened, written or made permanent: exit status 3.
class FileError : public Error {
 public:
  using Error::Error;
  int exit_status() const noexcept override { return 3; }
};

}  // namespace rwkvx
