#include "synth/story_world.h"

#include <algorithm>
#include <iterator>

namespace rwkvx {

bool is_story_name(std::string_view word) {
  return std::ranges::any_of(story::kNames, [&](const auto& one) { return one.name == word; });
}

namespace story {

void StoryWorld::make_world() {
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
      if (i == 0 && thing.holder == recipient_) thing.holder = kNobody, thing.place = open_place();
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

int StoryWorld::open_place() {
  int place = random_place();
  while (place == locked_) place = random_place();
  return place;
}

std::string StoryWorld::kin(int from, int to) const {
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

std::string StoryWorld::where(int place) const {
  const PlaceWord& word = *places_[at(place)];
  return std::string(word.where) + " " + std::string(word.name);
}

std::string StoryWorld::called(int from, int person) {
  const std::string word = kin(from, person);
  if (word.empty() || !draw_.percent(35)) return people_[at(person)].name;
  for (int other = 0; other < static_cast<int>(people_.size()); ++other)
    if (other != person && other != from && kin(from, other) == word)
      return people_[at(person)].name;
  return possessive(from) + " " + word;
}

void StoryWorld::write(std::string_view sentences, const Roles& roles, Slots slots) {
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

void StoryWorld::note(Kind kind, int actor, int other, int thing, int place) {
  events_.push_back({kind, actor, other, thing, place, told_from_, text_.size()});
}

void StoryWorld::new_paragraph() {
  if (text_.sentences_in_paragraph() == 0) return;
  text_.end_paragraph();
  subject_ = kNobody;
}

std::vector<int> StoryWorld::held_by(int person) const {
  std::vector<int> held;
  for (int t = 0; t < thing_count(); ++t)
    if (things_[at(t)].holder == person) held.push_back(t);
  return held;
}

std::vector<int> StoryWorld::lying_at(int place) const {
  std::vector<int> found;
  for (int t = 0; t < thing_count(); ++t)
    if (things_[at(t)].place == place) found.push_back(t);
  return found;
}

std::vector<int> StoryWorld::others_with(int person) const {
  std::vector<int> found;
  for (int i = 0; i < static_cast<int>(people_.size()); ++i)
    if (i != person && people_[at(i)].place == people_[at(person)].place) found.push_back(i);
  return found;
}

void StoryWorld::move(int actor, int place) {
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

void StoryWorld::take(int actor, int thing) {
  say(kTakes, {actor, kNobody, kNobody, thing, -1});
  things_[at(thing)].holder = actor;
  things_[at(thing)].place = -1;
  note(Kind::kTake, actor, kNobody, thing, -1);
  last_thing_ = thing;
}

void StoryWorld::put(int actor, int thing) {
  const int place = people_[at(actor)].place;
  say(kPuts, {actor, kNobody, kNobody, thing, place});
  things_[at(thing)].holder = kNobody;
  things_[at(thing)].place = place;
  note(Kind::kPut, actor, kNobody, thing, -1);
  last_thing_ = thing;
}

void StoryWorld::give(int actor, int other, int thing) {
  say(kGives, {actor, other, kNobody, thing, -1});
  things_[at(thing)].holder = other;
  note(Kind::kGive, actor, other, thing, -1);
  last_thing_ = thing;
}

void StoryWorld::store(int actor, int thing) {
  say(kStores, {actor, kNobody, kNobody, thing, -1});
  things_[at(thing)].holder = kNobody;
  things_[at(thing)].boxed = true;
  note(Kind::kStore, actor, kNobody, thing, -1);
  last_thing_ = thing;
}

void StoryWorld::fetch(int actor, int thing) {
  say(kFetches, {actor, kNobody, kNobody, thing, -1});
  things_[at(thing)].holder = actor;
  things_[at(thing)].boxed = false;
  note(Kind::kFetch, actor, kNobody, thing, -1);
  last_thing_ = thing;
}

}  // namespace story
}  // namespace rwkvx
