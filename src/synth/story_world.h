// The world of a story: people, places and things, what can happen to them, and the sentences that
// tell it. What is told follows from the state alone, so a reader needs what was said long before.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/synth/synth.h"
#include "synth/draw.h"
#include "synth/story_words.h"
#include "synth/synth_text.h"

namespace rwkvx::story {

inline constexpr int kNobody = -1;

struct Person {
  std::string name;
  bool she;
  int place;
  const Habit* habit = nullptr;
};

struct Thing {
  std::string noun;  // "brass lantern"
  int holder = kNobody;
  int place = -1;  // where it lies; -1 while held or in the box
  bool boxed = false;
};

class StoryWorld {
 protected:
  using Kind = StoryEvent::Kind;

  explicit StoryWorld(std::uint64_t key) : draw_(key) {}

  void make_world();
  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  int place_count() const { return static_cast<int>(places_.size()); }
  int thing_count() const { return static_cast<int>(things_.size()); }
  int random_place() { return static_cast<int>(draw_.below(places_.size())); }
  int open_place();
  bool closed(int place) const { return place == locked_ && !unlocked_; }
  // What `to` is for `from`, "" for no kin.
  std::string kin(int from, int to) const;

  // Words.
  std::string possessive(int person) const { return people_[at(person)].she ? "her" : "his"; }
  std::string object(int person) const { return people_[at(person)].she ? "her" : "him"; }
  std::string subject(int person) const { return people_[at(person)].she ? "she" : "he"; }
  std::string where(int place) const;
  std::string the(int thing) const { return "the " + things_[at(thing)].noun; }
  // Another person as `from` would call them: by name or, where only one fits, by kin.
  std::string called(int from, int person);

  struct Roles {
    int actor = kNobody, other = kNobody, third = kNobody, thing = -1, place = -1;
  };

  template <class List>
  void say(const List& templates, const Roles& roles, Slots more = {}) {
    // Not a sentence that was used a moment ago, where there is a choice.
    const std::string_view* sentence = &draw_.pick(templates);
    for (int tries = 0; tries < 4; ++tries) {
      if (std::find(recent_.begin(), recent_.end(), sentence) == recent_.end()) break;
      sentence = &draw_.pick(templates);
    }
    recent_[recent_at_++ % recent_.size()] = sentence;
    write(*sentence, roles, std::move(more));
  }
  void write(std::string_view sentences, const Roles& roles, Slots slots = {});
  void note(Kind kind, int actor, int other, int thing, int place);
  void new_paragraph();

  // What can happen.
  std::vector<int> held_by(int person) const;
  std::vector<int> lying_at(int place) const;
  std::vector<int> others_with(int person) const;
  void move(int actor, int place);
  void take(int actor, int thing);
  void put(int actor, int thing);
  void give(int actor, int other, int thing);
  void store(int actor, int thing);
  void fetch(int actor, int thing);

  Draw draw_;
  SynthText text_{/*capitals=*/true};
  std::vector<Person> people_;
  std::vector<Thing> things_;
  std::vector<const PlaceWord*> places_;
  std::vector<StoryEvent> events_;
  std::string box_, password_, number_, friend_word_;
  const Weather* weather_ = nullptr;
  std::array<bool, 4> weather_shown_{};
  std::array<const std::string_view*, 10> recent_{};
  std::size_t recent_at_ = 0;
  int box_place_ = 0, locked_ = -1, guarded_ = -1, key_ = -1;
  int recipient_ = 2, debtor_ = kNobody, elder_ = 0;
  int actor_ = kNobody, subject_ = kNobody, last_thing_ = -1, paragraph_length_ = 4;
  bool short_ = false, unlocked_ = false;
  std::int64_t told_from_ = 0, prompt_end_ = 0, reference_end_ = 0;
};

}  // namespace rwkvx::story
