// Synthetic text from a seed: the same seed and options give the same bytes on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

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

// Whether a word is one of the names that stories give to their people.
bool is_story_name(std::string_view word);

// A kind of text: a row of the table in synth.cpp.
struct SynthTask {
  std::string_view name;
  std::string_view help;
  std::uint64_t number;  // part of every document's seed: another one gives other texts
  // Whether references follow from their prompts word for word. Other texts are prose with phrases
  // and sentences.
  bool answers;
  SynthDocument (*make)(std::uint64_t key);
};
std::span<const SynthTask* const> synth_tasks();
// Throws ConfigError at `where`, naming all tasks, for an unknown name.
const SynthTask& synth_task(std::string_view name, const std::string& where);

// Document `index` of a corpus: a pure function of its arguments.
SynthDocument synth_document(const SynthTask& task, std::uint64_t seed, std::uint64_t index);

}  // namespace rwkvx
