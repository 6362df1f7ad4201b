// Synthetic texts as the files of a data set.
#pragma once

#include <cstdint>
#include <filesystem>

#include "rwkvx/synth/synth.h"

namespace rwkvx {

struct SynthOptions {
  std::uint64_t seed = 1;
  const SynthTask* task = synth_tasks().front();  // stories
  std::int64_t stories = 0;     // documents of train.txt; 0: as many as megabytes asks for
  double megabytes = 1.0;       // size of train.txt in 10^6 bytes where stories is 0
  double valid_fraction = 0.1;  // documents of valid.txt, as a share of those of train.txt
  std::int64_t pairs = 200;     // lines of pairs.jsonl
};

struct SynthReport {
  std::int64_t train_documents = 0, valid_documents = 0, pairs = 0;
  std::int64_t train_bytes = 0, valid_bytes = 0, words = 0;
};

// Writes into `directory` (made if needed):
//   train.txt, valid.txt   documents, each followed by a line "<|endoftext|>"
//   pairs.jsonl            {"id", "prompt", "reference"}, from documents in neither text; prompt
//                          and reference joined are the start of a document
//   boundaries.jsonl       for each document of valid.txt {"story", "offset" (bytes into
//                          valid.txt), "words", "phrases", "sentences", "paragraphs": byte ends in
//                          the story}
//   manifest.json          options, counts and the XXH3-128 of each file
// Throws ConfigError for options out of range, FileError where writing fails.
SynthReport write_synth(const SynthOptions& options, const std::filesystem::path& directory,
                        bool quiet = false);

}  // namespace rwkvx
