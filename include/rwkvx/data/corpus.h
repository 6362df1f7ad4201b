// Text files to token files: .txt with documents separated by a separator line, .jsonl with a text
// field or with ids, .npy with ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "rwkvx/config/train_config.h"
#include "rwkvx/data/batcher.h"
#include "rwkvx/data/manifest.h"
#include "rwkvx/data/token_file.h"
#include "rwkvx/text/tokenizer.h"

namespace rwkvx {

// Which share of a text is meant. A text without a validation file of its own is split: the last
// `fraction` of its bytes (all files one after the other; for .jsonl the bytes of the lines) is for
// validation. The cut lies at the document boundary nearest to that place if this changes the
// validation share by less than half of it; otherwise (one document, or a few long ones) the
// document there is cut in two, before a whole UTF-8 character.
enum class TextPart { kAll, kTrain, kValid };

// Tokenizes `sources` (files, directories and patterns, see data/sources.h) into the token file
// `prefix`, or leaves it as it is where its manifest shows that it came from the same bytes,
// settings and tokenizer. Creates the directory of `prefix` if needed. Nothing is changed before
// all of the text was read. A pair without a manifest, or one that does not fit its manifest but is
// whole, belongs to another program and is refused; what an interrupted call of ours left is built
// again. One process builds a token file at a time.
//
// A line of a .jsonl file may be an array of ids, or have one in its text field, and so may the
// rows of an .npy file: these are taken as they are.
//
// A document's text is every byte between two separator lines (line ends included, the separator
// line never; a line end may be \n or \r\n). Documents without a byte are left out, and so are
// blank lines of a .jsonl file. A document longer than 256 KiB is encoded in pieces of at most
// that, cut after the last line end in a piece, else before the last space, else before a UTF-8
// character: a rule of the text alone, so the tokens depend neither on `threads` (0: automatic)
// nor on timing.
//
// Throws FileError for a missing file; DataError, as FILE or FILE:LINE, for an empty text or a
// .jsonl line that is not an object with the text field, which config.skip_bad_lines leaves out and
// counts in one warning; FileError where another process builds this file, or where it is not ours;
// Interrupted where a signal came. Invalid UTF-8 is kept as bytes, and counted in one warning.
TokenManifest build_tokens(const std::vector<std::string>& sources, const DataConfig& config,
                           const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                           std::int64_t threads = 0, bool quiet = false,
                           TextPart part = TextPart::kAll);

// The tokens of a training and of its validation. Text becomes the token files FOLDER/train and
// FOLDER/valid, from config.valid or, where that is empty, from the end of config.train (see
// TextPart); token files of other places are read as they are, and where config.valid is empty the
// last share of their tokens is for validation. Where config.weights has a weight for each entry of
// config.train, each has files of its own, FOLDER/train-1 and so on. FOLDER is config.cache, or
// `default_folder` where that is empty. Throws ConfigError where config.train is empty or
// valid_fraction leaves nothing to validate on; DataError for token files that another tokenizer
// made, if their manifest says so.
// The files are opened before another process could put others in their place. `check` is called
// with both manifests before anything is changed, and may throw. Runs that share a cache and want
// the same tokens may do so at any time.
struct TokenSets {
  TokenManifest train_manifest, valid_manifest;  // sums, where there are several files
  std::shared_ptr<const TokenSource> train_tokens, valid_tokens;
  // The entries of config.train with their weights; one where there are no weights.
  std::vector<MixturePart> mixture;
  std::vector<std::shared_ptr<const TokenSource>> mixture_parts;
};
using TokenSetsCheck = std::function<void(const TokenSets&)>;
TokenSets build_token_sets(const DataConfig& config, const Tokenizer& tokenizer,
                           const std::filesystem::path& default_folder, std::int64_t threads = 0,
                           bool quiet = false, const TokenSetsCheck& check = {});

// Throws FileError where another process builds the token files of a training there, naming it.
void refuse_while_built(const DataConfig& config, const std::filesystem::path& default_folder);

// Throws DataError for the first line of a .jsonl source that has no text to train on, unless
// config.skip_bad_lines. Reads all sources.
void check_lines(const std::vector<std::string>& sources, const DataConfig& config,
                 std::int64_t threads = 0);

// Text to train a tokenizer on: the pieces (at most 256 KiB each) of the documents of `part`. Where
// they hold more than max_bytes together, every n-th piece, n being how many times more, rounded
// up. Throws like build_tokens().
std::vector<std::string> read_pieces(const std::vector<std::string>& sources,
                                     const DataConfig& config, TextPart part = TextPart::kAll,
                                     std::int64_t max_bytes = 32 << 20);

// The part of config.train that is trained on: all of it, or what validation leaves.
inline TextPart training_part(const DataConfig& config) {
  return config.valid.empty() ? TextPart::kTrain : TextPart::kAll;
}

}  // namespace rwkvx
