// Stories: a small world of people, places and things, changed by events, each told by a sentence.
// What is told follows from the state alone, so a reader needs what was said long before.
#include <algorithm>
#include <array>
#include <optional>

#include "synth/draw.h"
#include "synth/story_words.h"
#include "synth/synth_text.h"

namespace rwkvx {
namespace {

using Kind = StoryEvent::Kind;
using namespace story;

constexpr int kNobody = -1;

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

std::string with_article(std::string_view noun) {
  const bool vowel = std::string_view("aeiou").find(noun.front()) != std::string_view::npos;
  return (vowel ? "an " : "a ") + std::string(noun);
}

class Storyteller {
 public:
  explicit Storyteller(std::uint64_t key) : draw_(key) {}

  SynthDocument tell() {
    make_world();
    introduce();
    const std::int64_t wanted = short_ ? draw_.between(150, 260) : draw_.between(220, 370);
    while (text_.words() < wanted) something_happens(wanted);
    keep_promise();
    recapitulate();
    SynthDocument document;
    text_.finish(document);
    document.prompt_end = prompt_end_;
    document.reference_end = reference_end_;
    for (const auto& person : people_) document.people.push_back(person.name);
    for (const auto& thing : things_) document.things.push_back(thing.noun);
    for (const auto* place : places_) document.places.emplace_back(place->name);
    document.events = std::move(events_);
    return document;
  }

 private:
  // ---- the world ----

  void make_world() {
    short_ = draw_.percent(35);
    const int people = short_ ? 3 : draw_.between(3, 5), things = short_ ? 2 : draw_.between(3, 5);
    const int places = short_ ? 4 : draw_.between(4, 6);
    for (const auto i : draw_.several(static_cast<std::size_t>(places), std::size(kPlaces)))
      places_.push_back(&kPlaces[i]);
    for (const auto i : draw_.several(static_cast<std::size_t>(people), std::size(kNames)))
      people_.push_back({std::string(kNames[i].name), kNames[i].she, 0});
    const auto qualities = draw_.several(static_cast<std::size_t>(things), std::size(kQualities));
    const auto nouns = draw_.several(static_cast<std::size_t>(things), std::size(kThings));
    for (std::size_t i = 0; i < qualities.size(); ++i)
      things_.push_back(
          {std::string(kQualities[qualities[i]]) + " " + std::string(kThings[nouns[i]])});
    box_ = std::string(draw_.pick(kBoxes));
    box_place_ = random_place();
    // At most one place is locked and another one guarded by a word.
    for (int i = 0; i < place_count(); ++i)
      if (places_[at(i)]->door && draw_.percent(70)) {
        locked_ = i;
        break;
      }
    if (locked_ >= 0) {
      key_ = static_cast<int>(things_.size());
      things_.push_back({std::string(draw_.pick(kKeyQualities)) + " key"});
    }
    const int guarded = random_place();
    if (guarded != locked_ && places_[at(guarded)]->door) guarded_ = guarded;
    password_ = std::string(draw_.pick(kPasswords));
    for (auto& person : people_) person.place = open_place();
    recipient_ = people_.size() > 3 && draw_.percent(50) ? 3 : 2;
    for (int i = 0; i < thing_count(); ++i) {
      Thing& thing = things_[at(i)];
      const auto where = draw_.below(3);
      if (where == 0) {
        thing.holder = static_cast<int>(draw_.below(people_.size()));
        if (i == 0 && thing.holder == recipient_)
          thing.holder = kNobody, thing.place = open_place();
      } else if (where == 1 && i != key_) {
        thing.boxed = true;
      } else {
        thing.place = i == key_ ? open_place() : random_place();
      }
    }
    const auto habits = draw_.several(2, std::size(kHabits));
    const auto owners = draw_.several(2, people_.size());
    for (std::size_t i = 0; i < 2; ++i) people_[owners[i]].habit = &kHabits[habits[i]];
    elder_ = static_cast<int>(draw_.below(3));
    friend_word_ = draw_.percent(50) ? "neighbour" : "friend";
    weather_ = &draw_.pick(kWeathers);
    debtor_ = draw_.percent(60) ? draw_.between(1, static_cast<int>(people_.size()) - 1) : kNobody;
    number_ = std::string(draw_.pick(kNumbers));
  }

  static std::size_t at(int index) { return static_cast<std::size_t>(index); }
  int place_count() const { return static_cast<int>(places_.size()); }
  int thing_count() const { return static_cast<int>(things_.size()); }
  int random_place() { return static_cast<int>(draw_.below(places_.size())); }
  int open_place() {
    int place = random_place();
    while (place == locked_) place = random_place();
    return place;
  }
  bool closed(int place) const { return place == locked_ && !unlocked_; }

  // What `to` is for `from`, "" for no kin.
  std::string kin(int from, int to) const {
    const bool she = people_[at(to)].she;
    if (from < 2 && to < 2) return she ? "sister" : "brother";
    static constexpr const char* kElder[3][2] = {
        {"father", "mother"}, {"uncle", "aunt"}, {"grandfather", "grandmother"}};
    static constexpr const char* kYounger[3][2] = {
        {"son", "daughter"}, {"nephew", "niece"}, {"grandson", "granddaughter"}};
    if (from < 2 && to == 2) return kElder[elder_][she];
    if (from == 2 && to < 2) return kYounger[elder_][she];
    if ((from == 0 && to == 3) || (from == 3 && to == 0)) return friend_word_;
    if ((from == 3 && to == 4) || (from == 4 && to == 3)) return "cousin";
    return "";
  }

  // ---- wording ----

  std::string possessive(int person) const { return people_[at(person)].she ? "her" : "his"; }
  std::string object(int person) const { return people_[at(person)].she ? "her" : "him"; }
  std::string subject(int person) const { return people_[at(person)].she ? "she" : "he"; }
  std::string where(int place) const {
    const PlaceWord& word = *places_[at(place)];
    return std::string(word.where) + " " + std::string(word.name);
  }
  std::string the(int thing) const { return "the " + things_[at(thing)].noun; }

  // Another person as `from` would call them: by name or, where only one fits, by kin.
  std::string called(int from, int person) {
    const std::string word = kin(from, person);
    if (word.empty() || !draw_.percent(35)) return people_[at(person)].name;
    for (int other = 0; other < static_cast<int>(people_.size()); ++other)
      if (other != person && other != from && kin(from, other) == word)
        return people_[at(person)].name;
    return possessive(from) + " " + word;
  }

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
  void write(std::string_view sentences, const Roles& roles, Slots slots = {}) {
    if (const int actor = roles.actor; actor != kNobody) {
      const std::string& name = people_[at(actor)].name;
      slots.emplace_back("A", name);
      slots.emplace_back("As", name + "'s");
      slots.emplace_back("S", subject_ == actor ? subject(actor) : name);
      slots.emplace_back("he", subject(actor));
      slots.emplace_back("a", possessive(actor));
      slots.emplace_back("him", object(actor));
    }
    if (const int other = roles.other; other != kNobody) {
      const bool has_actor = roles.actor != kNobody;
      slots.emplace_back("B", has_actor ? called(roles.actor, other) : people_[at(other)].name);
      slots.emplace_back("b", possessive(other));
      slots.emplace_back("bhe", subject(other));
    }
    if (roles.third != kNobody) slots.emplace_back("C", people_[at(roles.third)].name);
    if (roles.thing >= 0) slots.emplace_back("o", the(roles.thing));
    if (roles.place >= 0) {
      slots.emplace_back("p", where(roles.place));
      slots.emplace_back("q", std::string(places_[at(roles.place)]->name));
    }
    slots.emplace_back("box", box_);
    slots.emplace_back("word", password_);
    slots.emplace_back("number", number_);
    told_from_ = text_.size();
    text_.say(sentences, slots);
    // "She" is clear in the next sentence unless this one was about another woman too.
    subject_ = roles.actor;
    for (const int person : {roles.other, roles.third})
      if (person != kNobody &&
          (roles.actor == kNobody || people_[at(person)].she == people_[at(roles.actor)].she))
        subject_ = kNobody;
  }

  void note(Kind kind, int actor, int other, int thing, int place) {
    events_.push_back({kind, actor, other, thing, place, told_from_, text_.size()});
  }

  void new_paragraph() {
    if (text_.sentences_in_paragraph() == 0) return;
    text_.end_paragraph();
    subject_ = kNobody;
  }

  // ---- the beginning ----

  void introduce() {
    const auto trades = draw_.several(people_.size(), std::size(kTrades));
    const auto trade = [&](std::size_t i) {
      return std::pair<std::string_view, std::string>{"trade", std::string(kTrades[trades[i]])};
    };
    say(kOpenings, {0}, {{"village", std::string(draw_.pick(kVillages))}, trade(0)});
    present(kSiblings, 0, 1, {trade(1)});
    present(kElders, 0, 2, {trade(2)});
    if (people_.size() > 3) present(kFriends, 0, 3, {trade(3)});
    if (people_.size() > 4) present(kFriends, 3, 4, {trade(4)});
    write(weather_->told, {});
    new_paragraph();

    for (int i = 0; i < static_cast<int>(people_.size()); ++i) {
      say(kStands, {i, kNobody, kNobody, -1, people_[at(i)].place});
      note(Kind::kStands, i, kNobody, -1, people_[at(i)].place);
      for (int t = 0; t < thing_count(); ++t)
        if (things_[at(t)].holder == i) {
          say(kHolds, {i}, {{"o", with_article(things_[at(t)].noun)}});
          note(Kind::kHolds, i, kNobody, t, -1);
        }
    }
    new_paragraph();
    say(kBoxStands, {kNobody, kNobody, kNobody, -1, box_place_});
    note(Kind::kBox, kNobody, kNobody, -1, box_place_);
    for (const bool boxed : {true, false})
      for (int t = 0; t < thing_count(); ++t) {
        const Thing& thing = things_[at(t)];
        const Slots named{{"o", with_article(thing.noun)}};
        if (thing.holder != kNobody || thing.boxed != boxed) continue;
        if (boxed) {
          say(kBoxed, {}, named);
          note(Kind::kBoxed, kNobody, kNobody, t, -1);
        } else {
          say(kLies, {kNobody, kNobody, kNobody, -1, thing.place}, named);
          note(Kind::kLies, kNobody, kNobody, t, thing.place);
        }
      }
    if (locked_ >= 0) {
      say(kLocked, {kNobody, kNobody, kNobody, key_, locked_});
      note(Kind::kLocked, kNobody, kNobody, key_, locked_);
    }
    if (guarded_ >= 0) say(kGuarded, {kNobody, kNobody, kNobody, -1, guarded_});
    new_paragraph();

    for (int i = 0; i < static_cast<int>(people_.size()); ++i)
      if (const Habit* habit = people_[at(i)].habit; habit != nullptr)
        write(habit->told, {kNobody, i});
    if (debtor_ != kNobody) say(kOwes, {0, debtor_});
    say(kPromises, {0, recipient_, kNobody, 0, -1});
    new_paragraph();
  }

  // People are presented by name, whatever their kin.
  template <class List>
  void present(const List& templates, int from, int person, Slots slots) {
    slots.emplace_back("B", people_[at(person)].name);
    slots.emplace_back("kin", kin(from, person));
    slots.emplace_back("bhe", subject(person));
    slots.emplace_back("b", possessive(person));
    say(templates, {from}, std::move(slots));
  }

  // ---- events ----

  std::vector<int> held_by(int person) const {
    std::vector<int> held;
    for (int t = 0; t < thing_count(); ++t)
      if (things_[at(t)].holder == person) held.push_back(t);
    return held;
  }
  std::vector<int> lying_at(int place) const {
    std::vector<int> found;
    for (int t = 0; t < thing_count(); ++t)
      if (things_[at(t)].place == place) found.push_back(t);
    return found;
  }
  std::vector<int> others_with(int person) const {
    std::vector<int> found;
    for (int i = 0; i < static_cast<int>(people_.size()); ++i)
      if (i != person && people_[at(i)].place == people_[at(person)].place) found.push_back(i);
    return found;
  }

  void move(int actor, int place) {
    Person& person = people_[at(actor)];
    if (place == guarded_) {
      say(kEnters, {actor, kNobody, kNobody, -1, place});
    } else {
      say(kMoves, {actor, kNobody, kNobody, -1, place});
    }
    person.place = place;
    note(Kind::kMove, actor, kNobody, -1, place);
    if (closed(place)) {
      say(kUnlocks, {actor, kNobody, kNobody, key_, place});
      unlocked_ = true;
      note(Kind::kUnlock, actor, kNobody, key_, place);
    }
    const auto company = others_with(actor);
    if (company.empty() && draw_.percent(25)) {
      say(kAlone, {actor, kNobody, kNobody, -1, place});
    } else if (!company.empty() && draw_.percent(60)) {
      const int other = draw_.pick(company);
      say(kMeets, {actor, other, kNobody, -1, place});
      note(Kind::kTogether, actor, other, -1, -1);
    }
  }

  void take(int actor, int thing) {
    say(kTakes, {actor, kNobody, kNobody, thing, -1});
    things_[at(thing)].holder = actor;
    things_[at(thing)].place = -1;
    note(Kind::kTake, actor, kNobody, thing, -1);
    last_thing_ = thing;
  }
  void put(int actor, int thing) {
    const int place = people_[at(actor)].place;
    say(kPuts, {actor, kNobody, kNobody, thing, place});
    things_[at(thing)].holder = kNobody;
    things_[at(thing)].place = place;
    note(Kind::kPut, actor, kNobody, thing, -1);
    last_thing_ = thing;
  }
  void give(int actor, int other, int thing) {
    say(kGives, {actor, other, kNobody, thing, -1});
    things_[at(thing)].holder = other;
    note(Kind::kGive, actor, other, thing, -1);
    last_thing_ = thing;
  }
  void store(int actor, int thing) {
    say(kStores, {actor, kNobody, kNobody, thing, -1});
    things_[at(thing)].holder = kNobody;
    things_[at(thing)].boxed = true;
    note(Kind::kStore, actor, kNobody, thing, -1);
    last_thing_ = thing;
  }
  void fetch(int actor, int thing) {
    say(kFetches, {actor, kNobody, kNobody, thing, -1});
    things_[at(thing)].holder = actor;
    things_[at(thing)].boxed = false;
    note(Kind::kFetch, actor, kNobody, thing, -1);
    last_thing_ = thing;
  }

  void ask(int actor, int other, int thing) {
    say(kAsks, {actor, other, kNobody, thing, -1});
    const Thing& wanted = things_[at(thing)];
    const int place = wanted.boxed ? box_place_ : wanted.place;
    const Roles roles{actor, other, wanted.holder, thing, place};
    if (wanted.boxed) {
      say(kAnswersBoxed, roles);
      note(Kind::kBoxed, kNobody, kNobody, thing, -1);
    } else if (wanted.holder == kNobody) {
      say(kAnswersLies, roles);
      note(Kind::kLies, kNobody, kNobody, thing, place);
    } else {
      if (wanted.holder == other)
        say(kAnswersMine, roles);
      else if (wanted.holder == actor)
        say(kAnswersYours, roles);
      else
        say(kAnswersHeld, roles);
      note(Kind::kHolds, wanted.holder, kNobody, thing, -1);
    }
  }

  void count_belongings(int actor) {
    const auto held = held_by(actor);
    if (held.empty()) return say(kCarriesNothing, {actor});
    std::string list;
    for (std::size_t i = 0; i < held.size(); ++i)
      list += (i == 0 ? "" : i + 1 == held.size() ? " and " : ", ") + the(held[i]);
    say(kCarries, {actor}, {{"list", list}});
    for (const int thing : held) note(Kind::kHolds, actor, kNobody, thing, -1);
  }

  // The promised thing must not reach its goal before the promise is kept.
  bool spoils_promise(int person, int thing) const { return thing == 0 && person == recipient_; }

  // One of `things` that `person` may get or give, not the one that was just handled.
  std::optional<int> one_of(std::vector<int> things, int receiver) {
    std::erase_if(things, [&](int t) { return t == last_thing_ || spoils_promise(receiver, t); });
    if (things.empty()) return std::nullopt;
    return draw_.pick(things);
  }

  void something_happens(std::int64_t wanted) {
    if (text_.sentences_in_paragraph() >= paragraph_length_) {
      new_paragraph();
      paragraph_length_ = draw_.between(4, 8);
      const auto phase = static_cast<std::size_t>(
          std::clamp<std::int64_t>((text_.words() - 100) * 4 / (wanted - 99), 0, 3));
      if (!weather_shown_[phase] && draw_.percent(70)) {
        weather_shown_[phase] = true;
        write(weather_->later[phase], {});
      }
    }
    change_actor();
    const int actor = actor_;
    for (int tries = 0; tries < 20; ++tries)
      if (act(actor)) return;
    move(actor, another_place(actor));
  }

  void change_actor() {
    if (actor_ != kNobody && !draw_.percent(35)) return;
    const int before = actor_;
    actor_ = draw_.percent(50) ? 0 : static_cast<int>(draw_.below(people_.size()));
    if (before == kNobody || before == actor_ ||
        people_[at(before)].place == people_[at(actor_)].place)
      return;
    new_paragraph();
    say(kScenes, {actor_, kNobody, kNobody, -1, people_[at(actor_)].place});
    note(Kind::kStands, actor_, kNobody, -1, people_[at(actor_)].place);
  }

  // A place that `actor` can get into, other than where they are.
  int another_place(int actor) {
    for (;;) {
      const int place = random_place();
      if (place == people_[at(actor)].place) continue;
      if (closed(place) && things_[at(key_)].holder != actor) continue;
      return place;
    }
  }

  // Tries one random thing to do; false if it is not possible.
  bool act(int actor) {
    const int place = people_[at(actor)].place;
    const auto company = others_with(actor);
    const int other = company.empty() ? kNobody : draw_.pick(company);
    const auto kind = draw_.below(100);
    if (kind < 26) {
      move(actor, another_place(actor));
    } else if (kind < 42) {
      const auto thing = one_of(lying_at(place), actor);
      if (!thing) return false;
      take(actor, *thing);
    } else if (kind < 48) {
      const auto thing = one_of(held_by(actor), kNobody);
      if (!thing) return false;
      put(actor, *thing);
    } else if (kind < 60) {
      if (other == kNobody) return false;
      const auto thing = one_of(held_by(actor), other);
      if (!thing) return false;
      give(actor, other, *thing);
    } else if (kind < 65) {
      const auto thing = one_of(held_by(actor), kNobody);
      if (place != box_place_ || !thing) return false;
      store(actor, *thing);
    } else if (kind < 72) {
      std::vector<int> boxed;
      for (int t = 0; t < thing_count(); ++t)
        if (things_[at(t)].boxed) boxed.push_back(t);
      const auto thing = one_of(boxed, actor);
      if (place != box_place_ || !thing) return false;
      fetch(actor, *thing);
    } else if (kind < 83) {
      if (other == kNobody) return false;
      ask(actor, other, static_cast<int>(draw_.below(things_.size())));
    } else if (kind < 86) {
      if (subject_ != actor) return false;
      count_belongings(actor);
    } else if (kind < 92) {
      if (other == kNobody || people_[at(other)].habit == nullptr) return false;
      write(people_[at(other)].habit->shown, {kNobody, other});
      note(Kind::kTogether, actor, other, -1, -1);
      people_[at(other)].habit = nullptr;
    } else if (kind < 96) {
      if (debtor_ == kNobody || people_[0].place != place || people_[at(debtor_)].place != place)
        return false;
      say(kPays, {0, debtor_});
      note(Kind::kTogether, 0, debtor_, -1, -1);
      debtor_ = kNobody;
    } else if (other != kNobody) {
      say(kTalk, {actor, other});
      note(Kind::kTogether, actor, other, -1, -1);
    } else {
      say(kAloneTalk, {actor});
    }
    return true;
  }

  // ---- the end ----

  // Brings `thing` into the hands of `actor`, wherever it is.
  void acquire(int actor, int thing) {
    const Thing& wanted = things_[at(thing)];
    if (wanted.holder == actor) return;
    if (wanted.holder != kNobody) {
      go(actor, people_[at(wanted.holder)].place);
      give(wanted.holder, actor, thing);
    } else if (wanted.boxed) {
      go(actor, box_place_);
      fetch(actor, thing);
    } else {
      go(actor, wanted.place);
      take(actor, thing);
    }
  }
  void go(int actor, int place) {
    if (people_[at(actor)].place == place) return;
    // The key is never behind its own door: nobody can carry it there without opening it.
    if (closed(place)) acquire(actor, key_);
    if (people_[at(actor)].place != place) move(actor, place);
  }

  void keep_promise() {
    new_paragraph();
    say(kQuest, {0, recipient_, kNobody, 0, -1});
    acquire(0, 0);
    go(0, people_[at(recipient_)].place);
    give(0, recipient_, 0);
    say(kKept, {0, recipient_});
  }

  void recapitulate() {
    new_paragraph();
    say(kRecaps, {0, recipient_});
    prompt_end_ = text_.size();
    for (int t = 0; t < thing_count(); ++t) {
      const Thing& thing = things_[at(t)];
      if (thing.holder != kNobody) {
        write("{A}| had {o}|.", {thing.holder, kNobody, kNobody, t, -1});
        note(Kind::kHolds, thing.holder, kNobody, t, -1);
      } else if (thing.boxed) {
        write("{o}| was in {box}| {p}|.", {kNobody, kNobody, kNobody, t, box_place_});
        note(Kind::kBoxed, kNobody, kNobody, t, -1);
      } else {
        write("{o}| was {p}|.", {kNobody, kNobody, kNobody, t, thing.place});
        note(Kind::kLies, kNobody, kNobody, t, thing.place);
      }
    }
    for (int i = 1; i < static_cast<int>(people_.size()); ++i) {
      if (i == recipient_) continue;
      write("{A}| was {p}|.", {i, kNobody, kNobody, -1, people_[at(i)].place});
      note(Kind::kStands, i, kNobody, -1, people_[at(i)].place);
    }
    reference_end_ = text_.size();
    say(kGoodnights, {});
  }

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

}  // namespace

SynthDocument make_story(std::uint64_t key) { return Storyteller(key).tell(); }

}  // namespace rwkvx
