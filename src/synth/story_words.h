// The words and sentences that stories are made of. See SynthText for the signs in the sentences.
//
// Slots: {A} the name of who acts, {S} the same or "she" where that is clear, {As} "Mira's", {a}
// "her", {him} "her", {he} "she"; {B} another person, by name or kin, {b} and {bhe} likewise, {C} a
// third; {o} a thing, {p} "at the mill", {q} "the mill"; {box} "the oak chest".
#pragma once

#include <string_view>

namespace rwkvx::story {

struct Name {
  std::string_view name;
  bool she;
};
inline constexpr Name kNames[] = {
    {"Mira", true},    {"Tomas", false},  {"Ines", true},    {"Otto", false},  {"Salma", true},
    {"Jonas", false},  {"Petra", true},   {"Emil", false},   {"Nadia", true},  {"Bruno", false},
    {"Lena", true},    {"Viktor", false}, {"Amara", true},   {"Felix", false}, {"Rosa", true},
    {"Hugo", false},   {"Clara", true},   {"Idris", false},  {"Yuki", true},   {"Marek", false},
    {"Anja", true},    {"Samir", false},  {"Greta", true},   {"Piet", false},  {"Noor", true},
    {"Arlo", false},   {"Helga", true},   {"Rashid", false}, {"Dora", true},   {"Kofi", false},
    {"Sofia", true},   {"Milan", false},  {"Tilda", true},   {"Anton", false}, {"Zola", true},
    {"Ruben", false},  {"Ida", true},     {"Kaspar", false}, {"Maren", true},  {"Luka", false},
    {"Frida", true},   {"Oskar", false},  {"Leila", true},   {"Nils", false},  {"Vera", true},
    {"Daniel", false}, {"Agnes", true},   {"Matti", false}};

inline constexpr std::string_view kVillages[] = {
    "Tellmere",   "Oskby",         "Harn", "Little Fenwold", "Quillet",     "Sorrow Bay",
    "Brackwater", "Upper Dunning", "Vell", "Stonny Cross",   "Marlow Ness", "Eastering"};

inline constexpr std::string_view kTrades[] = {
    "carpenter", "baker",  "weaver", "clockmaker",  "ferry keeper", "gardener",   "teacher",
    "beekeeper", "potter", "tailor", "bell ringer", "shepherd",     "bookbinder", "glass blower"};

struct PlaceWord {
  std::string_view where;  // "at", "in", "on"
  std::string_view name;
  bool door;  // may be locked
};
inline constexpr PlaceWord kPlaces[] = {
    {"at", "the mill", true},        {"in", "the orchard", false},
    {"on", "the bridge", false},     {"in", "the bell tower", true},
    {"at", "the harbour", false},    {"in", "the boat shed", true},
    {"at", "the forge", true},       {"in", "the bakery", true},
    {"on", "the hill", false},       {"in", "the barn", true},
    {"at", "the well", false},       {"in", "the schoolhouse", true},
    {"in", "the chapel", true},      {"at", "the ferry landing", false},
    {"in", "the library", true},     {"in", "the greenhouse", true},
    {"at", "the quarry", false},     {"in", "the market hall", true},
    {"on", "the pier", false},       {"in", "the wash house", true},
    {"at", "the crossroads", false}, {"in", "the stable", true},
    {"by", "the pond", false},       {"in", "the weaving room", true},
    {"at", "the lighthouse", true},  {"in", "the clock shop", true},
    {"in", "the apple loft", true},  {"in", "the herb garden", false}};

inline constexpr std::string_view kQualities[] = {
    "brass",  "copper", "painted", "wooden", "blue",   "green",  "cracked", "silver",
    "little", "heavy",  "old",     "white",  "carved", "yellow", "striped", "polished"};
inline constexpr std::string_view kThings[] = {
    "lantern", "cup",   "bell",   "kettle", "whistle", "basket", "compass", "spoon",
    "mirror",  "flute", "bowl",   "hammer", "bucket",  "comb",   "drum",    "bottle",
    "clock",   "horn",  "mask",   "jug",    "ladle",   "kite",   "fan",     "purse",
    "ball",    "brush", "pillow", "vase",   "candle",  "rope"};
inline constexpr std::string_view kKeyQualities[] = {"iron",   "brass", "rusty",
                                                     "silver", "long",  "crooked"};
inline constexpr std::string_view kBoxes[] = {"the oak chest", "the tin trunk", "the tall cupboard",
                                              "the wicker hamper", "the sea chest"};
inline constexpr std::string_view kPasswords[] = {
    "heron",  "thistle", "copperleaf", "midwinter", "lodestone", "sparrow", "juniper",
    "anthem", "saffron", "willow",     "parsnip",   "moonrise",  "cobalt",  "harvest"};
inline constexpr std::string_view kNumbers[] = {"three", "four", "five",   "six",    "seven",
                                                "eight", "nine", "eleven", "twelve", "twenty"};

// How somebody can be recognized later from what is told of them here.
struct Habit {
  std::string_view told, shown;
};
inline constexpr Habit kHabits[] = {
    {"{B}| hummed| whenever {bhe} was worried|.",
     "Someone| was humming| a worried tune|. It was {B}|, of course|."},
    {"{B}| counted {b} steps aloud| wherever {bhe} went|.",
     "A voice| was counting steps|, so {B}| had to be near|."},
    {"{B}| always kept dried plums| in one pocket|.",
     "Somebody| passed round| a handful of dried plums|, and that was {B}|."},
    {"{B}| sneezed| at the least bit of dust|.",
     "A loud sneeze| broke the silence|. The dust| had found {B}|."},
    {"{B}| wore a red scarf| in every season|.",
     "A red scarf| showed| against the wall|, and the one who wore it| was {B}|."},
    {"{B}| walked with a stick| of white ash|.",
     "The tap of a stick| came nearer|, and there| was {B}|."},
    {"{B}| laughed| before the end of every joke|.",
     "A joke was told|, and before it ended| {B}| was laughing|."},
    {"{B}| could whistle| like a thrush|.", "What sounded like a thrush| turned out to be {B}|."},
    {"{B}| was afraid of geese|.",
     "A goose came round the corner|, and {B}| stepped back| at once|."},
    {"{B}| could never find {b} spectacles|.",
     "Somebody| was feeling in every pocket| for a pair of spectacles|. That was {B}|."},
    {"{B}| spoke| to every dog {bhe} met|.",
     "Someone| was talking kindly| to a stray dog|, and it was {B}|."},
    {"{B}| could not pass a puddle| without throwing a pebble|.",
     "A pebble| splashed| in a puddle|. {B}| had thrown it|."},
    {"{B}| was the only one| who could read the old letters|.",
     "There were old letters| on a stone|, and only {B}| could read them|."},
    {"{B}| always smelled| of lavender|.",
     "A smell of lavender| hung in the air|, for {B}| was there|."}};

inline constexpr std::string_view kOpenings[] = {
    "In {village}| there lived| a {trade}| called {A}|.", "{A}| was the {trade}| of {village}|.",
    "Everyone in {village}| knew {A}|, the {trade}|.",
    "Long ago|, when {village}| was still small|, {A}| was its only {trade}|.",
    "The {trade}| of {village}| was called {A}|."};
inline constexpr std::string_view kSiblings[] = {"{A}| had a {kin}|, {B}|, who was a {trade}|.",
                                                 "{a} {kin}| was {B}|, the {trade}|.",
                                                 "{B}|, the {trade}|, was {a} {kin}|."};
inline constexpr std::string_view kElders[] = {
    "{As} {kin}|, {B}|, had once been a {trade}|.",
    "Their {kin}| was called {B}|, and {bhe} had been a {trade}| for forty years|.",
    "{B}|, a {trade}| all {b} life|, was {As} {kin}|."};
inline constexpr std::string_view kFriends[] = {
    "{B}|, the {trade}|, was {As} {kin}|.", "Then there was {As} {kin}|, {B}|, a {trade}|.",
    "The {trade}|, whose name was {B}|, had been {As} {kin}| for years|."};

inline constexpr std::string_view kStands[] = {"That morning| {A}| was {p}|.", "{A}| was {p}|.",
                                               "{A}| had gone out early| and was {p}|.",
                                               "{A}| had work to do| {p}|."};
inline constexpr std::string_view kHolds[] = {
    "{A}| had {o}| with {him}|.", "{A}| was carrying {o}|.", "In {a} bag| {A}| carried {o}|.",
    "{o}| was in {a} hands|, as {A}| had borrowed it|."};
inline constexpr std::string_view kLies[] = {"{o}| lay| {p}|.", "{p}|, on a shelf|, stood {o}|.",
                                             "Somebody| had left {o}| {p}|.",
                                             "{p}|, if one looked well|, there was {o}|."};
inline constexpr std::string_view kBoxStands[] = {"{box}| stood| {p}|.",
                                                  "{p}| there was room| for {box}|."};
inline constexpr std::string_view kBoxed[] = {
    "Inside it| was {o}|.", "{o}| had been put away| in it|.", "Those who opened it| found {o}|."};
inline constexpr std::string_view kLocked[] = {
    "The door of {q}| was locked|, and only {o}| could open it|.",
    "Nobody could enter {q}| without {o}|, for its door| was locked|."};
inline constexpr std::string_view kGuarded[] = {
    "Nobody was let into {q}| without saying the word \"{word}\"|.",
    "To be let into {q}|, one had to say \"{word}\"|."};
inline constexpr std::string_view kOwes[] = {"{B}| still owed {A}| {number} coins|.",
                                             "{A}| had lent {B}| {number} coins| in spring|."};
inline constexpr std::string_view kPromises[] = {
    "{A}| had promised| to bring {o}| to {B}| before dark|.",
    "Before the day was over|, {o}| had to be in the hands of {B}|, and {A}| had promised| to see "
    "to it|.",
    "\"Bring me {o}| by tonight|,\" {B}| had said|, and {A}| had promised|."};

inline constexpr std::string_view kScenes[] = {"Meanwhile| {A}| was still {p}|.",
                                               "All this time| {A}| had been {p}|.",
                                               "As for {A}|, {he}| was {p}|."};
inline constexpr std::string_view kMoves[] = {
    "{S}| walked| to {q}|.",
    "{S}| went over| to {q}|.",
    "{S}| hurried| along the narrow path| to {q}|.",
    "{S}| took the short way| to {q}|.",
    "After a while| {S}| set out| for {q}| and soon arrived|.",
    "{S}| left| and did not stop| before {q}|.",
    "With {a} collar up|, {S}| crossed the field| to {q}|.",
    "There was something to do| {p}|, so {S}| went there|."};
inline constexpr std::string_view kEnters[] = {
    "At the entrance of {q}| {S}| said \"{word}\"| and was let in|.",
    "{S}| went to {q}|, whispered \"{word}\"|, and nobody stopped {him}|.",
    "\"{word},\"| said {A}| at the door of {q}|, and it was opened| for {him}|."};
inline constexpr std::string_view kUnlocks[] = {
    "{S}| turned {o}| in the lock| of {q}|, and the door stood open| from then on|.",
    "With {o}| {S}| opened the door| of {q}| and stepped inside|.",
    "The lock of {q}| gave way| to {o}|, and {S}| left the door open| behind {him}|."};
inline constexpr std::string_view kTakes[] = {
    "{S}| picked up {o}|.", "{o}| was still there|, and {S}| took it|.",
    "{S}| saw {o}| and put it| in {a} bag|.", "Nobody was using {o}|, so {S}| took it along|.",
    "{S}| found {o}| where it had been left| and lifted it up|."};
inline constexpr std::string_view kPuts[] = {
    "{S}| put down {o}|.", "{S}| left {o}| there|, for it was in the way|.",
    "Tired of carrying {o}|, {S}| set it down| {p}|.", "{S}| laid {o}| in a safe corner| {p}|."};
inline constexpr std::string_view kGives[] = {
    "{S}| gave {o}| to {B}|.",
    "{S}| handed {B}| {o}|.",
    "\"Take {o}|,\" said {A}|, and {B}| took it|.",
    "{B}| asked for {o}|, and {S}| gave it up| without a word|.",
    "\"This is better kept by you|,\" said {A}|, and passed {o}| to {B}|.",
    "{o}| went| from {A}| to {B}|."};
inline constexpr std::string_view kStores[] = {
    "{S}| opened {box}|, put {o}| inside| and closed the lid|.", "{S}| hid {o}| in {box}|.",
    "\"It will be safe there|,\" said {A}|, and shut {o}| in {box}|."};
inline constexpr std::string_view kFetches[] = {
    "{S}| opened {box}| and took out {o}|.",
    "{S}| lifted the lid of {box}|. There was {o}|, and {he}| took it|.",
    "Out of {box}| {S}| pulled {o}|."};

// Asking after a thing; the answer, drawn from the state, is what has to be remembered.
inline constexpr std::string_view kAsks[] = {
    "\"Where is {o}?\"| asked {A}|.", "\"Have you seen {o}?\"| {S} asked| {B}|.",
    "{S}| wanted to know| what had become of {o}|.", "\"I cannot find {o}|,\" said {A}|."};
inline constexpr std::string_view kAnswersHeld[] = {"\"{C} has it|,\" said {B}|.",
                                                    "\"You must ask {C}|,\" said {B}|.",
                                                    "{B}| knew| that {C}| had it|."};
inline constexpr std::string_view kAnswersMine[] = {"\"I have it|,\" said {B}|.",
                                                    "\"It is here| in my bag|,\" {B} answered|."};
inline constexpr std::string_view kAnswersYours[] = {
    "\"But you have it yourself|,\" said {B}|.", "{B}| laughed|, because {A}| was carrying it|."};
inline constexpr std::string_view kAnswersLies[] = {"\"It must be {p}|,\" said {B}|.",
                                                    "\"Look {p}|,\" said {B}|.",
                                                    "{B}| was sure| that it was {p}|."};
inline constexpr std::string_view kAnswersBoxed[] = {"\"It is in {box}| {p}|,\" said {B}|.",
                                                     "{B}| remembered| that it was in {box}|."};

inline constexpr std::string_view kAlone[] = {"Nobody else| was there|.", "{he}| was alone| {p}|.",
                                              "There was no one| to be seen|."};
inline constexpr std::string_view kMeets[] = {"{B}| was there too|.", "There| {he} met {B}|.",
                                              "{B}| was {p} already| and nodded| to {him}|.",
                                              "The first person| {he} saw there| was {B}|."};
inline constexpr std::string_view kCarriesNothing[] = {"{a} hands| were empty|.",
                                                       "{he}| was carrying nothing at all|."};
inline constexpr std::string_view kCarries[] = {"{he}| was carrying {list}|, and nothing else|.",
                                                "In {a} bag| there was {list}|.",
                                                "{he}| looked into {a} bag|: there was {list}|."};
inline constexpr std::string_view kPays[] = {
    "{B}| counted out| {number} coins|, and the debt to {A}| was paid|.",
    "\"Here are your {number} coins|,\" said {B}|, and {A}| put them away|."};

inline constexpr std::string_view kTalk[] = {
    "They talked| about the price of wool|.",
    "{A}| and {B}| shared a piece of bread|.",
    "{B}| told {A}| an old story| about a king and a snail|.",
    "\"There is much to do today|,\" said {B}|.",
    "{S}| asked {B}| about the roof|, and {B}| only sighed|.",
    "For a while| neither of them spoke|."};
inline constexpr std::string_view kAloneTalk[] = {
    "{S}| sat down| for a moment| to think|.", "{S}| listened|, but there was nothing to hear|.",
    "{S}| tied {a} boots| again|.", "{S}| thought of {a} promise|.",
    "{S}| ate an apple| and threw the core| to the birds|."};

struct Weather {
  std::string_view told;
  std::string_view later[4];  // morning, noon, afternoon, evening
};
inline constexpr Weather kWeathers[] = {
    {"It had rained| since dawn|.",
     {"Water| ran from every roof|.", "At noon| the rain| was as thick as ever|.",
      "All afternoon| the rain| kept falling|.", "In the evening| it was still raining|."}},
    {"Fog| lay over the valley|.",
     {"The fog| hid the tops of the trees|.", "By noon| the fog| had hardly moved|.",
      "The fog| made every step sound near|.", "The lamps| were dim| in the evening fog|."}},
    {"Snow| had fallen| in the night|.",
     {"The snow| creaked| under every boot|.", "Around noon| the snow| began to shine|.",
      "Someone| was clearing snow| from a step|.", "As it grew dark|, the snow| turned blue|."}},
    {"It was a bright|, hot day|.",
     {"The sun| was already warm|.", "At noon| even the dogs| lay in the shade|.",
      "The afternoon| was so hot| that nobody hurried|.",
      "The stones| were still warm| in the evening|."}},
    {"A strong wind| blew| from the north|.",
     {"The wind| rattled the shutters|.", "At noon| the wind| tore a branch| from a tree|.",
      "Leaves| flew past| in the wind|.", "Towards evening| the wind| howled in the chimneys|."}}};

inline constexpr std::string_view kQuest[] = {
    "Now {A}| remembered the promise|: {o}| had to be brought| to {B}|.",
    "It was getting late|, and {A}| had still to bring {o}| to {B}|.",
    "\"The promise!\"| cried {A}|. It was time| to find {o}|."};
inline constexpr std::string_view kKept[] = {"So the promise| was kept|.",
                                             "{A}| had kept {a} word|.",
                                             "\"You kept your promise|,\" said {B}|."};
inline constexpr std::string_view kRecaps[] = {
    "That night| {A}| and {B}| went over| where everything was|.",
    "Before they slept|, {A}| told {B}| where each thing had ended up|.",
    "When the lamp was lit|, {B}| asked| how things stood|, and {A}| told everything in turn|."};
inline constexpr std::string_view kGoodnights[] = {"Then they said good night|.",
                                                   "After that| there was nothing more to tell|.",
                                                   "And so the day| came to its end|."};

}  // namespace rwkvx::story
