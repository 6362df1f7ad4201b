// The manifest of a token file: what its tokens were made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace rwkvx {

// What was read and how, and what came out: PREFIX.json beside the token file.
struct TokenManifest {
  struct Source {
    std::string path;  // as it was given
    std::int64_t bytes = 0;
    std::string hash;  // XXH3-128 of the file
  };
  std::vector<Source> sources;
  std::string tokenizer_kind, tokenizer_hash;
  std::int64_t vocab_size = 0;
  std::string separator, text_field;
  std::string part = "all";   // all, train or valid
  double valid_fraction = 0;  // 0 where part is all
  std::int64_t documents = 0;
  std::int64_t tokens = 0;        // document ends included
  std::int64_t bytes = 0;         // of the text, separators not counted
  std::int64_t invalid_utf8 = 0;  // ill-formed sequences, kept as bytes
  bool skip_bad_lines = false;
  std::int64_t skipped_lines = 0;  // that could not be read
  std::string hash;  // over contents, settings and tokenizer, not names: same hash, same tokens
  bool unfinished = false;  // a build was cut off while it put the files in place
  bool reused = false;      // whether the token file was there already; not in the file
};

// Reads PREFIX.json. Throws FileError or DataError.
TokenManifest read_manifest(const std::filesystem::path& prefix);

}  // namespace rwkvx
