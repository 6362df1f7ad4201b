// Text of our own, from a seed: the same seed and options give the same bytes on every machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

// What the text is for:
//   stories    short English stories (150 to 600 words) from a grammar. People, their kin, places,
//              doors and things are drawn at the start and tracked; later sentences follow from
//              what was told hundreds of tokens before.
//   copy       a line of random words, then the same line again.
//   induction  a row of words in which pairs recur: after the first word of a pair its second must
//              follow.
//   recall     a list of "key is value" facts, then questions about some of them.
enum class SynthTask { kStories, kCopy, kInduction, kRecall };
// Throws ConfigError naming the four where `name` is none of them.
SynthTask synth_task(std::string_view name);
std::string_view synth_task_name(SynthTask task);

// The end of a word, phrase, sentence or paragraph: the byte offset, within its document, after its
// last byte (punctuation that closes it included).
struct Boundary {
  enum class Kind : std::uint8_t { kWord, kPhrase, kSentence, kParagraph };
  Kind kind;
  std::int64_t offset;
};

// One thing that a story tells, in numbers: indices into people, things and places, -1 where none
// is meant. Replaying the events gives the state of the story's world after any sentence.
struct StoryEvent {
  enum class Kind : std::uint8_t {
    kStands,   // actor is at place            (told at the start)
    kHolds,    // actor holds thing            (told at the start, or a true answer)
    kLies,     // thing lies at place          (told at the start, or a true answer)
    kBoxed,    // thing is in the box          (told at the start, or a true answer)
    kBox,      // the box stands at place
    kLocked,   // place is locked, thing opens it
    kMove,     // actor goes to place
    kUnlock,   // actor, who holds the key `thing`, opens place for good
    kTake,     // actor picks up thing, which lies where they are
    kPut,      // actor lays thing down where they are
    kGive,     // actor hands thing to other, who is there too
    kStore,    // actor puts thing into the box, which stands where they are
    kFetch,    // actor takes thing out of the box, likewise
    kTogether  // actor and other are in the same place
  };
  Kind kind;
  int actor = -1, other = -1, thing = -1, place = -1;
  std::int64_t begin = 0, end = 0;  // the bytes that tell it
};

struct SynthDocument {
  std::string text;                  // ends with a line end; never holds a separator line
  std::vector<Boundary> boundaries;  // by offset, then kind
  // Where the text is cut for a prompt -> continuation pair: what follows up to `reference_end` can
  // be told, wholly or mostly, from what precedes.
  std::int64_t prompt_end = 0, reference_end = 0;
  // Stories only: the names behind the numbers of the events.
  std::vector<std::string> people, things, places;
  std::vector<StoryEvent> events;
};

// Document `index` of a corpus: a pure function of its arguments.
SynthDocument synth_document(SynthTask task, std::uint64_t seed, std::uint64_t index);

struct SynthOptions {
  std::uint64_t seed = 1;
  SynthTask task = SynthTask::kStories;
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
//   and
//                          reference joined are the start of a document
//   boundaries.jsonl       for each document of valid.txt {"story", "offset" (bytes into
//   valid.txt),
//                          "words", "phrases", "sentences", "paragraphs": byte ends in the story}
//   manifest.json          options, counts and the XXH3-128 of each file
// Throws ConfigError for options out of range, FileError where writing fails.
SynthReport write_synth(const SynthOptions& options, const std::filesystem::path& directory,
                        bool quiet = false);

}  // namespace rwkvx
