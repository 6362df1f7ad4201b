// Stories: a small world, changed by events, each told by a sentence.
#include <algorithm>
#include <optional>

#include "synth/story_world.h"

namespace rwkvx {
namespace {

using namespace story;

std::string with_article(std::string_view noun) {
  const bool vowel = std::string_view("aeiou").find(noun.front()) != std::string_view::npos;
  return (vowel ? "an " : "a ") + std::string(noun);
}

class Storyteller : StoryWorld {
 public:
  explicit Storyteller(std::uint64_t key) : StoryWorld(key) {}

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
  // The beginning.

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

  // The middle.

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

  // The end.

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
};

SynthDocument make_story(std::uint64_t key) { return Storyteller(key).tell(); }

}  // namespace

// People, their kin, places, doors and things are drawn at the start and tracked; later sentences
// follow from what was told hundreds of tokens before.
extern const SynthTask kStories{.name = "stories",
                                .help = "short English stories (150 to 600 words) from a grammar",
                                .number = 0,
                                .answers = false,
                                .make = make_story};

}  // namespace rwkvx
