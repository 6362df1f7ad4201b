// A text in pieces: each drawn from the state that the one before it saved.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/formats/safetensors.h"
#include "rwkvx/generate/generator.h"
#include "support/random_model.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

constexpr char kPrefix[] = "Zürich 東京 🙂 ends, the END\n";

std::unique_ptr<Tokenizer> trained(const std::string& algorithm) {
  std::vector<std::string> documents;
  for (const std::string bird : {"wren", "robin", "starling", "blackbird", "nightingale", "heron"})
    for (const std::string other : {"fox", "badger", "hedgehog", "squirrel", "otter"})
      documents.push_back("the " + bird + " sings, and the " + other +
                          " listens quietly: " + kPrefix);
  return train_sentencepiece(documents, {300, algorithm, 0.99});
}

// Bytes, and tokens that hold several characters, parts of characters and line ends.
std::unique_ptr<Tokenizer> world(const ScratchDirectory& folder) {
  std::string vocabulary;
  int id = 1;
  const auto add = [&](const std::string& literal, std::size_t size) {
    vocabulary += std::to_string(id++) + " " + literal + " " + std::to_string(size) + "\n";
  };
  for (int byte = 0; byte < 256; ++byte) {
    char literal[8];
    std::snprintf(literal, sizeof literal, "b'\\x%02x'", byte);
    add(literal, 1);
  }
  add("'END\\n'", 4);
  add("', the E'", 7);
  add("b'\\xe6\\x9d'", 2);
  add("'.\\n'", 2);
  add("'東京'", 6);
  write_file(folder / "vocabulary.txt", vocabulary);
  return load_tokenizer(folder / "vocabulary.txt");
}

using Made = RandomModel;

std::vector<std::pair<std::string, std::unique_ptr<Made>>> all_models() {
  std::vector<std::pair<std::string, std::unique_ptr<Made>>> models;
  models.emplace_back("byte",
                      std::make_unique<Made>([](const auto&) { return make_byte_tokenizer(); }));
  models.emplace_back("unigram",
                      std::make_unique<Made>([](const auto&) { return trained("unigram"); }));
  models.emplace_back("bpe", std::make_unique<Made>([](const auto&) { return trained("bpe"); }));
  models.emplace_back("world", std::make_unique<Made>(world));
  models.emplace_back("huggingface", std::make_unique<Made>([](const auto&) {
                        return load_tokenizer(std::filesystem::path(RWKVX_SOURCE_DIR) /
                                              "tests/golden/tokenizer/nfc.json");
                      }));
  return models;
}

struct Shown {
  std::string text;
  Continuation last;
};

// Draws `lengths` tokens one after the other; between them the text lies in a file.
Shown in_pieces(Made& made, GenerateConfig config, const std::vector<std::int64_t>& lengths,
                const std::string& prompt = "a bird ") {
  Shown out;
  const auto file = made.folder / "state";
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    Session session(*made.generator);
    if (i > 0) session.load(file);
    session.feed(i == 0 ? prompt : "");
    config.max_new_tokens = lengths[i];
    if (i > 0) config.prefix.clear();
    const bool last = i + 1 == lengths.size();
    out.last = session.draw(config,
                            [&](const DrawnToken& one) {
                              EXPECT_EQ(replace_invalid_utf8(one.text), one.text)
                                  << "a character was cut";
                              out.text += one.text;
                              return true;
                            },
                            {.keep_text = false, .hold = !last});
    if (last) out.text += session.release_held();
    if (out.last.ended_by != "length") break;
    session.save(file);
  }
  return out;
}

std::vector<std::int64_t> random_cutting(std::int64_t total, std::mt19937& random) {
  std::vector<std::int64_t> lengths;
  while (total > 0) {
    lengths.push_back(std::min<std::int64_t>(total, random() % 9));
    total -= lengths.back();
  }
  return lengths;
}

TEST(Session, GivesTheSameTextHoweverItIsCutIntoPieces) {
  std::mt19937 random(5);
  for (const auto& [name, made] : all_models())
    for (int seed = 1; seed <= 2; ++seed) {
      GenerateConfig config;
      config.seed = seed;
      config.prefix = kPrefix;
      config.ignore_end = true;
      config.repetition_penalty = 1.3;
      config.frequency_penalty = 0.1;
      config.penalty_decay = 0.9;
      const auto whole = in_pieces(*made, config, {60});
      ASSERT_EQ(whole.text.substr(0, sizeof kPrefix - 1), kPrefix);
      // Stop texts out of the text: in the prefix, and in what was drawn at random.
      for (const std::string stop : {"", "京 🙂", "END\n", "he E", "drawn"}) {
        config.stop = {"no such text", stop};
        if (stop == "drawn") {
          auto begin = sizeof kPrefix - 1 + random() % (whole.text.size() - sizeof kPrefix);
          while ((static_cast<unsigned char>(whole.text[begin]) & 0xC0) == 0x80) --begin;
          config.stop[1] = whole.text.substr(begin, 7);
        }
        const auto once = in_pieces(*made, config, {60});
        for (int i = 0; i < 3; ++i) {
          const auto cut = in_pieces(*made, config, random_cutting(60, random));
          EXPECT_EQ(cut.text, once.text) << name << ", seed " << seed << ", stop " << stop;
          EXPECT_EQ(cut.last.ended_by, once.last.ended_by);
        }
      }
    }
}

TEST(Session, SavesTheTokensWhoseTextWasShownOrIsHeldAfterAStopText) {
  for (const auto& [name, made] : all_models())
    for (const std::string stop : {"京 🙂", "END\n", "he E", "\n", "Zürich"}) {
      GenerateConfig config;
      config.prefix = kPrefix;
      config.seed = 3;
      const auto whole = in_pieces(*made, config, {50}).text;
      config.stop = {stop};
      config.max_new_tokens = 50;
      std::string text;
      const auto show = [&](const DrawnToken& one) {
        text += one.text;
        return true;
      };
      Session session(*made->generator);
      session.feed("a bird ");
      ASSERT_EQ(session.draw(config, show, {.hold = true}).ended_by, "stop");
      EXPECT_EQ(text, whole.substr(0, whole.find(stop)));
      const auto tokens = session.tokens();
      session.save(made->folder / "stopped");
      EXPECT_EQ(session.tokens(), tokens);

      // Without the stop text it goes on as if it had never been asked for.
      Session other(*made->generator);
      other.load(made->folder / "stopped");
      config.stop.clear();
      config.prefix.clear();
      const auto before = made->generator->tokenizer().encode("a bird ").size();
      config.max_new_tokens = 50 - (tokens - static_cast<std::int64_t>(before));
      other.draw(config, show);
      EXPECT_EQ(text, whole) << name << ", stop " << stop;
    }
}

TEST(Session, HoldsNothingOfAStopTextWhereTokensAreBytes) {
  Made made([](const auto&) { return make_byte_tokenizer(); });
  GenerateConfig config;
  config.prefix = "one END two";
  config.stop = {"END"};
  Session session(*made.generator);
  session.feed("a");
  EXPECT_EQ(session.draw(config, {}, {.hold = true}).text, "one ");
  EXPECT_EQ(session.tokens(), 5);
  EXPECT_EQ(session.release_held(), "");
}

TEST(Session, ReleasesWhatItHolds) {
  Made made([](const auto&) { return make_byte_tokenizer(); });
  GenerateConfig config;
  config.prefix = "one EN";
  config.stop = {"END"};
  config.max_new_tokens = 6;
  Session session(*made.generator);
  EXPECT_EQ(session.draw(config, {}, {.hold = true}).text, "one ");
  EXPECT_EQ(session.copy().release_held(), "EN");
  session.feed("next");
  EXPECT_EQ(session.release_held(), "");
}

TEST(Session, AStateOfTheEarlierFormIsRefusedWithWhatToDo) {
  Made made([](const auto&) { return make_byte_tokenizer(); });
  const std::vector<float> values(8);
  const TensorView view{"state", DType::kF32, {8}, std::as_bytes(std::span(values))};
  write_safetensors(made.folder / "old", {&view, 1}, {{"format", "rwkvx state 1"}});
  Session session(*made.generator);
  try {
    session.load(made.folder / "old");
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("earlier version"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("--save-state"), std::string::npos);
  }
}

}  // namespace
}  // namespace rwkvx
