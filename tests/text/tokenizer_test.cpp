#include "rwkvx/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

// Sentences with some hundred different words, drawn from syllables: enough for a small vocabulary.
std::vector<std::string> sample_documents(int lines = 600) {
  static constexpr const char* kSyllables[] = {"ka", "lo",  "mir", "ten", "sa", "ru", "pel", "o",
                                               "ni", "dar", "ve",  "shu", "a",  "it", "gro"};
  std::mt19937 random(7);
  std::string text;
  for (int line = 0; line < lines; ++line) {
    const auto words = 4 + random() % 9;
    for (std::uint32_t word = 0; word < words; ++word) {
      if (word > 0) text += ' ';
      const auto syllables = 1 + random() % 3;
      for (std::uint32_t s = 0; s < syllables; ++s) text += kSyllables[random() % 15];
    }
    text += ".\n";
  }
  return {text};
}

const Tokenizer& trained(const std::string& algorithm) {
  static const auto make = [](const std::string& name) {
    SentencePieceTraining training;
    training.vocab_size = 400;
    training.model_type = name;
    return train_sentencepiece(sample_documents(), training);
  };
  static const auto unigram = make("unigram"), bpe = make("bpe");
  return algorithm == "bpe" ? *bpe : *unigram;
}

// The 256 bytes and a few longer pieces, as the lines of an RWKV-World vocabulary.
std::string small_vocabulary() {
  std::string text;
  int id = 1;
  const auto line = [&](const std::string& literal, int bytes) {
    text += std::to_string(id++) + " " + literal + " " + std::to_string(bytes) + "\n";
  };
  static constexpr char kHex[] = "0123456789abcdef";
  for (int byte = 0; byte < 256; ++byte) {
    if (byte == '\t' || byte == '\n' || byte == '\r')
      line(byte == '\t' ? "'\\t'" : byte == '\n' ? "'\\n'" : "'\\r'", 1);
    else if (byte == '\'')
      line("\"'\"", 1);
    else if (byte == '\\')
      line("'\\\\'", 1);
    else if (byte >= 32 && byte < 127)
      line(std::string("'") + static_cast<char>(byte) + "'", 1);
    else
      line(std::string(byte < 128 ? "'" : "b'") + "\\x" + kHex[byte >> 4] + kHex[byte & 15] + "'",
           1);
  }
  line("' the'", 4);
  line("'the'", 3);
  line("'there'", 5);
  line("' a b '", 5);
  line("'\\n\\n'", 2);
  line("'\xC3\xA9'", 2);
  line("'\\xe9t'", 3);
  line("'\\u2581'", 3);
  line("'\\U0001f600'", 4);
  line("b'\\xff\\x00a'", 3);
  line("\"it's\"", 4);
  return text;
}

std::unique_ptr<Tokenizer> world(const std::string& vocabulary = small_vocabulary()) {
  const ScratchDirectory scratch;
  write_file(scratch / "vocab.txt", vocabulary);
  return load_tokenizer(scratch / "vocab.txt");
}

std::vector<std::pair<std::string, const Tokenizer*>> all_tokenizers() {
  static const auto bytes = make_byte_tokenizer();
  static const auto world_tokenizer = world();
  return {{"byte", bytes.get()},
          {"unigram", &trained("unigram")},
          {"bpe", &trained("bpe")},
          {"world", world_tokenizer.get()}};
}

void expect_round_trip(const std::string& text, const std::string& what) {
  for (const auto& [name, tokenizer] : all_tokenizers()) {
    const auto ids = tokenizer->encode(text);
    for (const TokenId id : ids) {
      ASSERT_GE(id, 0) << name << " on " << what;
      ASSERT_LT(id, tokenizer->vocab_size()) << name << " on " << what;
      ASSERT_NE(id, tokenizer->document_end()) << name << " on " << what;
    }
    const std::string back = tokenizer->decode(ids);
    if (back == text) continue;
    const auto differs = std::mismatch(text.begin(), text.end(), back.begin(), back.end());
    FAIL() << name << " changed " << what << " at byte " << differs.first - text.begin() << ": \""
           << text.substr(static_cast<std::size_t>(differs.first - text.begin()), 12) << "\"";
  }
}

template <class Call>
std::string data_error(const Call& call) {
  try {
    call();
  } catch (const DataError& error) {
    return error.what();
  }
  return "no DataError";
}

TEST(Tokenizer, GivesBackTextsWithOddCharacters) {
  using namespace std::string_literals;
  const std::vector<std::string> texts{
      "",
      " ",
      "a",
      "  a  b   c    ",
      "\n",
      "\n\n\n",
      "a\n b\n\n c",
      "\r\n\tx\t\ty\r\n",
      "\xE2\x96\x81",
      "a\xE2\x96\x81 \xE2\x96\x81\xE2\x96\x81"
      "b",
      "\0"s,
      "a\0b\0\0 c"s,
      "\xFF\xFE",
      "caf\xC3",
      "\xC3(\xA9 \xF0\x9F\x98",
      "\xED\xA0\x80 surrogate \xC0\xAF overlong",
      "\xEF\xBF\xBD \xE2\x96\x85 \xEF\xBB\xBF",
      "na\xC3\xAFve caf\xC3\xA9 \xF0\x9F\x98\x80 \xE4\xBD\xA0\xE5\xA5\xBD",
      "e\xCC\x81 \xEF\xAC\x81 \xC2\xBD \xE2\x84\xAB \xE3\x80\x80 \xC2\xA0 \xE2\x80\xA8",
      "</s> <unk> <0x41> <s> <|endoftext|> \\n",
      std::string(10000, ' '),
      std::string(5000, 'k') + std::string(3000, '\n')};
  for (const auto& text : texts) expect_round_trip(text, "\"" + text.substr(0, 30) + "\"");
}

TEST(Tokenizer, GivesBackRandomBytes) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 200, ' ');
    for (char& byte : text) byte = static_cast<char>(random() & (round % 2 == 0 ? 0xFF : 0x7F));
    expect_round_trip(text, "random bytes, round " + std::to_string(round));
  }
}

TEST(Tokenizer, GivesBackRandomMixturesOfValidCharacters) {
  static const std::vector<std::string> kParts{" ",
                                               "  ",
                                               "\n",
                                               "ka",
                                               "lo ",
                                               "\xE2\x96\x81",
                                               "\xC3\xA9",
                                               "\xF0\x9F\x98\x80",
                                               "\xE2\x80\x8B",
                                               "\t",
                                               ".",
                                               "\r\n",
                                               "\xCC\x81",
                                               "\xEF\xBF\xBE"};
  std::mt19937 random(12);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (auto parts = random() % 60; parts > 0; --parts) text += kParts[random() % kParts.size()];
    expect_round_trip(text, "mixture " + std::to_string(round));
  }
}

TEST(Tokenizer, GivesBackRealText) {
  // Sentences in many languages, as they stand in the golden vectors, and more where it lies there.
  const std::filesystem::path project(RWKVX_SOURCE_DIR);
  expect_round_trip(read_file(project / "tests/golden/rouge/single.jsonl"), "sentences");
  for (const char* name : {"multilingual/sample.txt", "tinyshakespeare/input.txt"})
    if (const auto path = sample_data(name); std::filesystem::exists(path))
      expect_round_trip(read_file(path), name);
}

TEST(Tokenizer, RefusesIdsOutsideItsVocabulary) {
  for (const auto& [name, tokenizer] : all_tokenizers()) {
    const auto beyond = static_cast<TokenId>(tokenizer->vocab_size());
    EXPECT_THAT(data_error([&] { tokenizer->piece(beyond); }), HasSubstr("is not in 0 to")) << name;
    EXPECT_THAT(data_error([&] { tokenizer->piece(-1); }), HasSubstr("is not in 0 to")) << name;
    EXPECT_EQ(tokenizer->piece(tokenizer->document_end()), "") << name;
  }
}

TEST(Tokenizer, IsTheSameAfterSavingAndLoading) {
  const std::string text = "kalo mirten\n\nsa \xE2\x96\x81 the there \xFF.";
  for (const auto& [name, tokenizer] : all_tokenizers()) {
    const ScratchDirectory scratch;
    tokenizer->save(scratch.path());
    for (const auto& path : {scratch.path(), scratch / "tokenizer.json"}) {
      const auto loaded = load_tokenizer(path);
      EXPECT_EQ(loaded->kind(), tokenizer->kind());
      EXPECT_EQ(loaded->hash(), tokenizer->hash());
      EXPECT_EQ(loaded->vocab_size(), tokenizer->vocab_size());
      EXPECT_EQ(loaded->document_end(), tokenizer->document_end());
      EXPECT_EQ(loaded->encode(text), tokenizer->encode(text));
    }
  }
}

TEST(Tokenizer, HasAHashOfItsOwn) {
  std::vector<std::string> hashes;
  for (const auto& [name, tokenizer] : all_tokenizers()) hashes.push_back(tokenizer->hash());
  std::sort(hashes.begin(), hashes.end());
  EXPECT_EQ(std::unique(hashes.begin(), hashes.end()), hashes.end());
}

TEST(Tokenizer, NamesTheFileThatIsDamaged) {
  const ScratchDirectory scratch;
  trained("unigram").save(scratch.path());
  std::string model = read_file(scratch / "tokenizer.model");
  model[model.size() / 2] = static_cast<char>(model[model.size() / 2] ^ 1);
  write_file(scratch / "tokenizer.model", model);
  const auto message = data_error([&] { load_tokenizer(scratch.path()); });
  EXPECT_THAT(message, HasSubstr("tokenizer.model"));
  EXPECT_THAT(message, HasSubstr("is damaged"));
}

TEST(Tokenizer, SaysWhatAFolderOrFileIsNot) {
  const ScratchDirectory scratch;
  EXPECT_THAT(data_error([&] { load_tokenizer(scratch.path()); }),
              HasSubstr("holds no tokenizer.json"));
  for (const std::string content :
       {"", "{}", "[1]", "nonsense", "{\"kind\": \"word\"}", "{\"kind\": 3}",
        "{\"kind\": \"world\", \"file\": \"../x\", \"hash\": \"\"}",
        "{\"kind\": \"sentencepiece\", \"file\": \"\", \"hash\": \"\"}"}) {
    write_file(scratch / "tokenizer.json", content);
    EXPECT_THAT(data_error([&] { load_tokenizer(scratch.path()); }), HasSubstr("tokenizer.json"))
        << content;
  }
  EXPECT_THROW(load_tokenizer(scratch / "missing.model"), FileError);
  EXPECT_THROW(load_tokenizer(scratch / "missing.txt"), FileError);
}

TEST(SentencePiece, RefusesFilesThatAreNotModels) {
  const ScratchDirectory scratch;
  std::mt19937 random(3);
  std::string noise(4000, ' ');
  for (char& byte : noise) byte = static_cast<char>(random());
  ScratchDirectory folder;
  trained("unigram").save(folder.path());
  const std::string model = read_file(folder / "tokenizer.model");
  for (const std::string& content : {std::string(), std::string("This is a text.\n"), noise,
                                     model.substr(0, model.size() / 2), std::string(100, '\0')}) {
    write_file(scratch / "x.model", content);
    const auto message = data_error([&] { load_tokenizer(scratch / "x.model"); });
    EXPECT_THAT(message, HasSubstr("x.model: "));
    EXPECT_THAT(message, HasSubstr("sentencepiece model"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(SentencePiece, TrainsTheSameModelFromTheSameText) {
  for (const char* algorithm : {"unigram", "bpe"}) {
    SentencePieceTraining training;
    training.vocab_size = 400;
    training.model_type = algorithm;
    EXPECT_EQ(train_sentencepiece(sample_documents(), training)->hash(), trained(algorithm).hash());
  }
}

TEST(SentencePiece, HasTheVocabularyAskedForAndEndsDocumentsWithZero) {
  for (const char* algorithm : {"unigram", "bpe"}) {
    EXPECT_EQ(trained(algorithm).vocab_size(), 400);
    EXPECT_EQ(trained(algorithm).document_end(), 0);
    EXPECT_TRUE(trained(algorithm).lossless());
  }
}

TEST(SentencePiece, ShortensTheTextItWasTrainedOn) {
  const std::string text = sample_documents().front();
  for (const char* algorithm : {"unigram", "bpe"})
    EXPECT_LT(trained(algorithm).encode(text).size() * 2, text.size()) << algorithm;
}

TEST(SentencePiece, MakesEachLineEndATokenOfItsOwn) {
  for (const char* algorithm : {"unigram", "bpe"}) {
    const auto& tokenizer = trained(algorithm);
    const auto line_end = tokenizer.encode("\n");
    ASSERT_EQ(line_end.size(), 1u) << algorithm;
    auto joined = tokenizer.encode("ka lo.\n");
    const auto rest = tokenizer.encode("mir ten");
    joined.insert(joined.end(), rest.begin(), rest.end());
    EXPECT_EQ(tokenizer.encode("ka lo.\nmir ten"), joined) << algorithm;
  }
}

TEST(SentencePiece, SaysHowLargeTheVocabularyMayBe) {
  SentencePieceTraining training;
  training.vocab_size = 30000;
  for (const char* algorithm : {"unigram", "bpe"}) {
    training.model_type = algorithm;
    const auto message = data_error([&] { train_sentencepiece(sample_documents(20), training); });
    EXPECT_THAT(message, HasSubstr("tokenizer.vocab_size"));
    EXPECT_THAT(message, HasSubstr("30000"));
    EXPECT_THAT(message, HasSubstr("at most "));
  }
}

TEST(SentencePiece, SaysThatTheCharactersDoNotFitTheVocabulary) {
  std::string text;
  for (int code = 0x4E00; code < 0x4E00 + 300; ++code) {
    text += static_cast<char>(0xE0 | (code >> 12));
    text += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    text += static_cast<char>(0x80 | (code & 0x3F));
  }
  SentencePieceTraining training;
  training.vocab_size = 300;
  training.character_coverage = 1.0;
  EXPECT_THAT(data_error([&] { train_sentencepiece({text + "\n" + text + "\n"}, training); }),
              HasSubstr("the characters of the text alone need"));
}

TEST(SentencePiece, RefusesToTrainOnNothing) {
  EXPECT_THAT(data_error([&] { train_sentencepiece({}, {}); }),
              HasSubstr("expected text to train on, got none"));
  EXPECT_THAT(data_error([&] {
                train_sentencepiece({"\n\n", "", "\xFF"}, {});
              }),
              HasSubstr("expected text to train on, got none"));
}

TEST(World, TakesTheLongestMatch) {
  const auto tokenizer = world();
  const auto pieces = [&](const std::string& text) {
    std::vector<std::string> found;
    for (const TokenId id : tokenizer->encode(text)) found.push_back(tokenizer->piece(id));
    return found;
  };
  using Pieces = std::vector<std::string>;
  EXPECT_EQ(pieces("there the"), (Pieces{"there", " the"}));
  EXPECT_EQ(pieces("ther"), (Pieces{"the", "r"}));
  EXPECT_EQ(pieces(" a b c"), (Pieces{" a b ", "c"}));
  EXPECT_EQ(pieces(" a bc"), (Pieces{" ", "a", " ", "b", "c"}));
  EXPECT_EQ(pieces("\xC3\xA9t\xC3\xA9"), (Pieces{"\xC3\xA9t", "\xC3\xA9"}));
  EXPECT_EQ(pieces("it's\n\n\n"), (Pieces{"it's", "\n\n", "\n"}));
  EXPECT_EQ(tokenizer->encode("A"), std::vector<TokenId>{'A' + 1});
  EXPECT_EQ(tokenizer->vocab_size(), 65536);
  EXPECT_EQ(tokenizer->document_end(), 0);
}

TEST(World, NamesTheLineThatIsWrong) {
  const std::string good = small_vocabulary();
  const auto message = [&](const std::string& line) {
    return data_error([&] { world(good + line + "\n"); });
  };
  const std::vector<std::pair<std::string, std::string>> cases{
      {"nonsense", "expected \"ID LITERAL BYTES\""},
      {"300 'ab'", "expected \"ID LITERAL BYTES\""},
      {"300 'ab' x", "expected a length"},
      {"x 'ab' 2", "expected an id"},
      {"99999999999999999999 'ab' 2", "expected an id"},
      {"65536 'ab' 2", "is not in 1 to 65535"},
      {"0 'ab' 2", "is not in 1 to 65535"},
      {"-4 'ab' 2", "is not in 1 to 65535"},
      {"5 'ab' 2", "does not come after"},
      {"300 'ab' 3", "the line says 3"},
      {"300 'ab' -1", "the line says -1"},
      {"300 ab 2", "quoted Python literal"},
      {"300 'ab\" 2", "quoted Python literal"},
      {"300 ' 1", "quoted Python literal"},
      {"300 '' 0", "literal is empty"},
      {"300 'a'b' 3", "after its closing quote"},
      {"300 'ab\\' 2", "ends inside an escape"},
      {"300 '\\q' 1", "unknown escape"},
      {"300 '\\x4' 1", "hexadecimal digits"},
      {"300 '\\ud800' 3", "is not a character"},
      {"300 '\\U00110000' 4", "is not a character"},
      {"300 b'\\u0041' 1", "unknown escape"}};
  for (const auto& [line, wanted] : cases) {
    EXPECT_THAT(message(line), HasSubstr(wanted)) << line;
    EXPECT_THAT(message(line), HasSubstr("vocab.txt:268: ")) << line;
  }
  EXPECT_THAT(message("300 'the' 3"), HasSubstr("are the same text"));
  EXPECT_THAT(data_error([&] { world(""); }), HasSubstr("got an empty file"));
  EXPECT_THAT(data_error([&] { world("1 'a' 1\n"); }),
              HasSubstr("no id stands for the single byte"));
}

// What editors do to a file: a mark at the beginning, blank lines at the end.
TEST(World, ReadsAByteOrderMarkAndBlankLastLines) {
  const std::string good = small_vocabulary();
  const auto wanted = world(good)->encode(" there");
  const std::string dos = [&] {
    std::string text;
    for (const char c : good) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
    return text;
  }();
  for (const auto& text : {"\xEF\xBB\xBF" + good, good + "\n", good + "\n\n  \n\t", dos + "\r\n",
                           "\xEF\xBB\xBF" + dos + "\r\n\r\n"})
    EXPECT_EQ(world(text)->encode(" there"), wanted);
  const auto first = good.find('\n') + 1;
  EXPECT_THAT(data_error([&] { world(good.substr(0, first) + "\n" + good.substr(first)); }),
              HasSubstr("vocab.txt:2: expected \"ID LITERAL BYTES\""));
}

TEST(Tokenizer, NamesFilesOfOtherKinds) {
  const ScratchDirectory scratch;
  for (const auto& [name, content, kind] : std::vector<std::array<std::string, 3>>{
           {"a.txt", "\x1f\x8b\x08 packed", "a gzip file"},
           {"a.model", "PK\x03\x04 packed", "a zip archive"},
           {"a.model", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"},
           {"vocab.json", "{}", "is not a Hugging Face tokenizer.json"}}) {
    write_file(scratch / name, content);
    EXPECT_THAT(data_error([&] { load_tokenizer(scratch / name); }), HasSubstr(kind));
  }
}

}  // namespace
}  // namespace rwkvx
