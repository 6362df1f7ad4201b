#include "rwkvx/data/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <map>
#include <optional>
#include <random>

#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/lock.h"
#include "rwkvx/base/log.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Corpus : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) {
    write_file(scratch_ / name, content);
    return (scratch_ / name).string();
  }
  TokenManifest build(const std::vector<std::string>& sources, TextPart part = TextPart::kAll,
                      std::int64_t threads = 2) {
    return build_tokens(sources, config_, *bytes_, scratch_ / "out/text", threads, /*quiet=*/true,
                        part);
  }
  // The texts of the documents in the token file.
  std::vector<std::string> documents() {
    const TokenFile tokens(scratch_ / "out/text");
    std::vector<std::string> texts;
    for (std::int64_t i = 0; i < tokens.documents(); ++i) {
      const auto [begin, end] = tokens.document(i);
      auto ids = tokens.read(begin, end - begin);
      EXPECT_EQ(ids.back(), bytes_->document_end());
      texts.push_back(bytes_->decode(ids));
    }
    return texts;
  }
  std::string both_parts(const std::vector<std::string>& sources, const std::string& between) {
    std::string text;
    for (const TextPart part : {TextPart::kTrain, TextPart::kValid}) {
      build(sources, part);
      for (const auto& document : documents()) text += document;
      if (part == TextPart::kTrain) text += between;
    }
    return text;
  }
  template <class Kind = DataError>
  std::string failure(const std::vector<std::string>& sources, TextPart part = TextPart::kAll) {
    try {
      build(sources, part);
    } catch (const Kind& error) {
      return error.what();
    }
    return "no such error";
  }

  ScratchDirectory scratch_;
  DataConfig config_;
  std::unique_ptr<Tokenizer> bytes_ = make_byte_tokenizer();
};

TEST_F(Corpus, PartsTextAtSeparatorLinesOnly) {
  build({file("a.txt",
              "one\n<|endoftext|>\ntwo <|endoftext|>\n<|endoftext|> two\n x<|endoftext|>\n\n"
              "<|endoftext|>\n<|endoftext|>\r\nthree\r\n<|endoftext|>\n\n<|endoftext|>")});
  EXPECT_THAT(documents(),
              ElementsAre("one\n", "two <|endoftext|>\n<|endoftext|> two\n x<|endoftext|>\n\n",
                          "three\r\n", "\n"));
}

TEST_F(Corpus, IsOneDocumentWithoutASeparator) {
  config_.separator = "";
  build({file("a.txt", "one\n<|endoftext|>\ntwo")});
  EXPECT_THAT(documents(), ElementsAre("one\n<|endoftext|>\ntwo"));
  config_.separator = "----";
  build({file("a.txt", "one\n----\n-----\n")});
  EXPECT_THAT(documents(), ElementsAre("one\n", "-----\n"));
}

TEST_F(Corpus, ReadsTheTextFieldOfJsonLines) {
  build(
      {file("a.jsonl",
            "{\"text\": \"one\\nline \\u00e9\", \"id\": 1}\n\n  \r\n{\"id\": 2, \"text\": \"\"}\r\n"
            "{\"text\": \"<|endoftext|>\"}")});
  EXPECT_THAT(documents(), ElementsAre("one\nline \xC3\xA9", "<|endoftext|>"));
  config_.text_field = "story";
  build({file("a.jsonl", "{\"story\": \"x\", \"text\": 5}\n")});
  EXPECT_THAT(documents(), ElementsAre("x"));
}

TEST_F(Corpus, ReadsSeveralFilesInTheOrderGiven) {
  const auto a = file("a.txt", "a"), b = file("b.jsonl", "{\"text\": \"b\"}"),
             c = file("c.txt", "");
  build({b, c, a});
  EXPECT_THAT(documents(), ElementsAre("b", "a"));
}

TEST_F(Corpus, NamesTheJsonLineThatIsWrong) {
  const std::string good = "{\"text\": \"x\"}\n\n";
  const auto message = [&](const std::string& line) {
    return failure({file("a.jsonl", good + line + "\n")});
  };
  EXPECT_THAT(message("{\"text\": \"x\""), HasSubstr("a.jsonl:3: is not valid JSON"));
  EXPECT_THAT(message("text"), HasSubstr("a.jsonl:3: is not valid JSON"));
  EXPECT_THAT(message("[1, 2]"), HasSubstr("a.jsonl:3: expected a JSON object, got array"));
  EXPECT_THAT(message("{\"txt\": \"x\", \"id\": 1}"),
              HasSubstr("has no field \"text\", only id, txt"));
  EXPECT_THAT(message("{}"), HasSubstr("has no field \"text\""));
  EXPECT_THAT(message("{\"text\": [\"x\"]}"),
              HasSubstr("expected a string in \"text\", got array"));
  EXPECT_THAT(message("{\"text\": 1e999}"), HasSubstr("a.jsonl:3: "));
  EXPECT_THAT(message(std::string(100000, '[')), HasSubstr("a.jsonl:3: is not valid JSON"));
}

TEST_F(Corpus, NamesTheFirstOfSeveralWrongLinesOnAnyNumberOfThreads) {
  std::string text;
  for (int line = 1; line <= 400; ++line)
    text += line % 50 == 37 ? "{\"text\": 1}\n" : "{\"text\": \"word\"}\n";
  const auto source = file("a.jsonl", text);
  for (const std::int64_t threads : {1, 2, 5}) {
    try {
      build({source}, TextPart::kAll, threads);
      FAIL();
    } catch (const DataError& error) {
      EXPECT_THAT(error.what(), HasSubstr("a.jsonl:37: "));
    }
  }
}

TEST_F(Corpus, KeepsAndCountsInvalidUtf8) {
  set_log_level(LogLevel::kOff);
  const std::string odd = "caf\xC3 \xFF\xFE na\xC3\xAFve\n";
  const auto manifest = build({file("a.txt", odd)});
  EXPECT_EQ(manifest.invalid_utf8, 3);
  EXPECT_THAT(documents(), ElementsAre(odd));
  const auto lines =
      build({file("a.jsonl", "{\"text\": \"caf\xC3 \xFF\xFE na\xC3\xAFve \\u00e9\"}\n")});
  EXPECT_EQ(lines.invalid_utf8, 3);
  EXPECT_THAT(documents(), ElementsAre("caf\xC3 \xFF\xFE na\xC3\xAFve \xC3\xA9"));
  set_log_level(LogLevel::kInfo);
}

// One reader of JSON lines for training and evaluation, with one rule for what is no character.
TEST_F(Corpus, ReadsLinesAsEvaluationDoes) {
  set_log_level(LogLevel::kOff);
  const auto manifest =
      build({file("a.jsonl",
                  "\xEF\xBB\xBF{\"text\": \"a\\ud800b\", \"deep\": [[[]]], \"n\": 1e999}\n"
                  "{\"text\": \"tab\there\", \"n\": 123456789012345678901234567890}\n"
                  "{\"text\": \"first\", \"text\": \"last\"}\n")});
  EXPECT_THAT(documents(), ElementsAre("a\xED\xA0\x80"
                                       "b",
                                       "tab\there", "last"));
  EXPECT_GT(manifest.invalid_utf8, 0);
  set_log_level(LogLevel::kInfo);
  const auto deep = [](std::size_t depth) {
    return "{\"text\": \"x\", \"deep\": " + std::string(depth, '[') + std::string(depth, ']') +
           "}\n";
  };
  build({file("b.jsonl", deep(200))});
  EXPECT_THAT(failure({file("c.jsonl", "\n" + deep(200000))}),
              HasSubstr("c.jsonl:2: is not valid JSON: column"));
}

TEST_F(Corpus, RefusesTextsWithoutText) {
  EXPECT_THAT(failure({file("a.txt", "")}), HasSubstr("a.txt: holds no text"));
  EXPECT_THAT(failure({file("a.txt", "<|endoftext|>\n<|endoftext|>\n")}),
              HasSubstr("holds no text"));
  EXPECT_THAT(failure({file("a.jsonl", "\n\n")}), HasSubstr("a.jsonl: holds no text"));
  EXPECT_THAT(failure({file("a.jsonl", "{\"text\": \"\"}\n")}), HasSubstr("holds no text"));
  EXPECT_THAT(failure<ConfigError>({}), HasSubstr("expected one or more files"));
  EXPECT_THAT(failure({file("a.txt", "x")}, TextPart::kTrain), HasSubstr("too short to split"));
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out/text.idx"));
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out/text.json"));
}

TEST_F(Corpus, NamesAMissingFile) {
  EXPECT_THAT(failure<FileError>({(scratch_ / "none.txt").string()}),
              HasSubstr("none.txt: cannot open: No such file"));
  EXPECT_THAT(failure({scratch_.path().string()}), HasSubstr("holds no text"));
}

TEST_F(Corpus, RefusesASeparatorOfSeveralLines) {
  config_.separator = "a\nb";
  EXPECT_THAT(failure<ConfigError>({file("a.txt", "x")}), HasSubstr("data.separator"));
}

// A text with documents of all sizes, two of them longer than a piece, one without a line end.
std::string large_text() {
  std::mt19937 random(21);
  std::string text;
  for (const std::size_t size : {100, 700000, 3, 5000, 600000, 1, 300000}) {
    const std::size_t end = text.size() + size;
    const bool lines = size != 600000;
    while (text.size() < end) {
      text += static_cast<char>('a' + random() % 26);
      const auto draw = random() % 40;
      if (draw < 8) text += draw == 0 && lines ? '\n' : ' ';
      if (draw == 20) text += "\xC3\xA9";
    }
    text += "\n<|endoftext|>\n";
  }
  return text;
}

TEST_F(Corpus, GivesTheSameTokensOnAnyNumberOfThreads) {
  const auto source = file("a.txt", large_text());
  const auto tokenizer = train_sentencepiece({large_text().substr(0, 100000)}, {300, "unigram", 1});
  std::string wanted;
  for (const std::int64_t threads : {1, 2, 3, 7}) {
    const auto prefix = scratch_ / ("threads" + std::to_string(threads));
    build_tokens({source}, config_, *tokenizer, prefix, threads, /*quiet=*/true);
    const TokenFilePaths paths(prefix);
    const std::string found = read_file(paths.index) + read_file(paths.tokens);
    if (wanted.empty()) wanted = found;
    EXPECT_TRUE(found == wanted) << threads << " threads";
  }
}

TEST_F(Corpus, KeepsEveryByteOfLongDocuments) {
  const std::string text = large_text();
  const auto manifest = build({file("a.txt", text)});
  std::string joined;
  for (const auto& document : documents()) joined += document + "<|endoftext|>\n";
  EXPECT_TRUE(joined == text);
  EXPECT_EQ(manifest.documents, 7);
  EXPECT_EQ(manifest.bytes, static_cast<std::int64_t>(text.size()) - 7 * 14);
  EXPECT_EQ(manifest.tokens, manifest.bytes + 7);
  EXPECT_EQ(manifest.invalid_utf8, 0);
}

TEST_F(Corpus, ReusesATokenFileUntilSomethingChanges) {
  const auto source = file("a.txt", "one two three\n");
  EXPECT_FALSE(build({source}).reused);
  const auto again = build({source});
  EXPECT_TRUE(again.reused);
  EXPECT_EQ(again.tokens, 15);
  EXPECT_EQ(again.documents, 1);

  const auto rebuilt = [&] { return !build({source}).reused && build({source}).reused; };
  file("a.txt", "one two threE\n");
  EXPECT_TRUE(rebuilt()) << "another text of the same length";
  config_.separator = "----";
  EXPECT_TRUE(rebuilt()) << "another separator";
  config_.text_field = "story";
  EXPECT_TRUE(rebuilt()) << "another field";
  EXPECT_FALSE(build({source, source}).reused) << "more files";
  EXPECT_TRUE(rebuilt());
  EXPECT_FALSE(build({source}, TextPart::kTrain).reused) << "another part";
  EXPECT_TRUE(rebuilt());
  const auto tokenizer = train_sentencepiece({large_text().substr(0, 50000)}, {300, "unigram", 1});
  EXPECT_FALSE(build_tokens({source}, config_, *tokenizer, scratch_ / "out/text", 1, true).reused)
      << "another tokenizer";
  EXPECT_TRUE(rebuilt());
  std::filesystem::copy_file(source, scratch_ / "moved.txt");
  EXPECT_TRUE(build({(scratch_ / "moved.txt").string()}).reused) << "the same text elsewhere";
}

TEST_F(Corpus, RebuildsATokenFileThatIsDamagedOrUnfinished) {
  const auto source = file("a.txt", "one two three\n");
  const auto wanted = build({source});
  for (const char* name : {"out/text.idx", "out/text.bin"}) {
    write_file(scratch_ / name, "x");
    const auto found = build({source});
    EXPECT_FALSE(found.reused) << name;
    EXPECT_EQ(found.tokens, wanted.tokens);
    std::filesystem::remove(scratch_ / name);
    EXPECT_FALSE(build({source}).reused) << name;
  }
  // As a killed build leaves it: the manifest says that the pair is being put in place.
  auto manifest = read_file(scratch_ / "out/text.json");
  manifest.replace(manifest.find(wanted.hash), wanted.hash.size(), "unfinished");
  write_file(scratch_ / "out/text.json", manifest);
  EXPECT_FALSE(build({source}).reused);
  EXPECT_TRUE(build({source}).reused);
}

// Every file below a folder with its content.
std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    files[entry.path().string()] = entry.is_regular_file() ? read_file(entry.path()) : "";
  return files;
}

TEST_F(Corpus, LeavesTokenFilesOfAnotherProgramAlone) {
  const auto source = file("a.txt", "one two three\n");
  const auto refused = [&](const std::string& text) {
    const auto before = contents(scratch_.path());
    EXPECT_THAT(failure<FileError>({source}), HasSubstr(text));
    EXPECT_EQ(contents(scratch_.path()), before);
  };
  const auto other = [&](std::int64_t tokens) {  // a whole pair, as Megatron would write it
    TokenFileWriter writer(scratch_ / "out/text", 257);
    writer.add(std::vector<TokenId>(static_cast<std::size_t>(tokens), 7));
    writer.end_document(256);
    writer.commit();
  };
  std::filesystem::create_directories(scratch_ / "out");
  other(20);
  refused("text.bin: already exists without the manifest text.json");
  std::filesystem::remove(scratch_ / "out/text.bin");
  refused("text.idx: already exists without the manifest");
  std::filesystem::remove(scratch_ / "out/text.idx");
  file("out/text.json", "{\"settings\": 3}");
  refused("text.json: already exists and is not the manifest of a token file");
  file("out/text.json", "[");
  refused("is not the manifest of a token file");
  std::filesystem::remove(scratch_ / "out/text.json");
  build({source});
  other(21);  // over ours
  config_.separator = "--";
  refused("text.bin: holds 22 tokens in 1 documents, but its manifest text.json says 15 in 1");
}

TEST_F(Corpus, ARefusedOrInterruptedBuildChangesNothing) {
  const auto source = file("a.txt", "one two three\n");
  build({source});
  const auto bad = file("bad.jsonl", "{\"text\": \"x\"}\n{\"text\": 1}\n");
  const auto before = contents(scratch_.path());
  EXPECT_THAT(failure({bad}), HasSubstr("bad.jsonl:2"));
  EXPECT_EQ(contents(scratch_.path()), before);
  const InterruptGuard guard;
  interrupt_by(SIGHUP);
  config_.separator = "--";
  EXPECT_THROW(build({source}), Interrupted);
  clear_interrupt();
  EXPECT_EQ(contents(scratch_.path()), before);
  // Where there was nothing, there is nothing.
  EXPECT_THROW(build_tokens({bad}, config_, *bytes_, scratch_ / "new/folder/x", 1, true),
               DataError);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "new"));
}

TEST_F(Corpus, OneProcessBuildsATokenFileAtATime) {
  const auto source = file("a.txt", "one two three\n");
  std::filesystem::create_directories(scratch_ / "out");
  {
    const auto owner = FileLock::of_file(scratch_ / "out/text");
    EXPECT_THAT(failure<FileError>({source}),
                HasSubstr("out/text: is in use by process " + std::to_string(::getpid()) + " on "));
    EXPECT_FALSE(std::filesystem::exists(scratch_ / "out/text.bin"));
  }
  EXPECT_FALSE(build({source}).reused);
  EXPECT_FALSE(std::filesystem::exists(scratch_ / "out/text.lock"));
}

TEST_F(Corpus, RunsShareACacheThatIsCompleteAndOneBuildsIt) {
  config_.train = {file("a.txt", std::string(1000, 'a'))};
  config_.cache = (scratch_ / "cache").string();
  const auto sets = [&] { return build_token_sets(config_, *bytes_, scratch_ / "x", 1, true); };
  const auto first = sets();
  std::optional<FileLock> owner(FileLock::of_file(scratch_ / "cache/valid"));
  EXPECT_TRUE(sets().valid_manifest.reused) << "reading needs no lock";
  EXPECT_THROW(refuse_while_built(config_, scratch_ / "x"), FileError);
  config_.separator = "--";
  const auto before = contents(scratch_ / "cache");
  EXPECT_THROW(sets(), FileError) << "another process builds there";
  EXPECT_EQ(contents(scratch_ / "cache"), before);
  owner.reset();
  refuse_while_built(config_, scratch_ / "x");
  EXPECT_FALSE(sets().train_manifest.reused);
  EXPECT_EQ(first.train_tokens->size(), 901) << "what was opened stays as it was";
  EXPECT_EQ(first.train_tokens->read(0, 1), std::vector<TokenId>{'a'});
}

TEST_F(Corpus, ACheckThatThrowsKeepsTheOldTokens) {
  config_.train = {file("a.txt", std::string(1000, 'a'))};
  build_token_sets(config_, *bytes_, scratch_ / "data", 1, true);
  const auto before = contents(scratch_ / "data");
  config_.separator = "--";
  std::int64_t tokens = 0;
  EXPECT_THROW(build_token_sets(config_, *bytes_, scratch_ / "data", 1, true,
                                [&](const TokenSets& sets) {
                                  tokens = sets.train_manifest.tokens;
                                  throw ConfigError("x", "refused");
                                }),
               ConfigError);
  EXPECT_EQ(tokens, 901);
  EXPECT_EQ(contents(scratch_ / "data"), before);
}

TEST_F(Corpus, LeavesOutBadLinesWhereThatIsWantedAndCountsThem) {
  const auto source = file("a.jsonl",
                           "{\"text\": \"one\"}\n{\"text\": 3}\n\n{\"text\": \"cut\n[1]\n"
                           "{\"txt\": \"x\"}\n{\"text\": \"two\"}\n");
  EXPECT_THAT(failure({source}), HasSubstr("a.jsonl:2"));
  EXPECT_THROW(check_lines({source}, config_), DataError);
  EXPECT_THROW(read_pieces({source}, config_), DataError);
  config_.skip_bad_lines = true;
  check_lines({source}, config_);
  testing::internal::CaptureStderr();
  const auto built = build({source});
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("4 bad lines were skipped, the first: "), HasSubstr("a.jsonl:2")));
  EXPECT_EQ(built.skipped_lines, 4);
  EXPECT_EQ(read_manifest(scratch_ / "out/text").skipped_lines, 4);
  EXPECT_THAT(documents(), ElementsAre("one", "two"));
  EXPECT_THAT(read_pieces({source}, config_), ElementsAre("one", "two"));
  EXPECT_EQ(build({source}).skipped_lines, 4) << "reused";
  const auto all_bad = file("b.jsonl", "3\n4\n");
  EXPECT_THAT(failure({all_bad}), AllOf(HasSubstr("holds no text"), HasSubstr("b.jsonl:1")));
}

TEST_F(Corpus, WritesAManifestThatCanBeReadBack) {
  const auto source = file("a.txt", "one\n<|endoftext|>\ntwo\n");
  const auto manifest = build({source});
  const auto found = read_manifest(scratch_ / "out/text");
  ASSERT_EQ(found.sources.size(), 1u);
  EXPECT_EQ(found.sources[0].path, source);
  EXPECT_EQ(found.sources[0].hash, hash_file(source));
  EXPECT_EQ(found.tokenizer_hash, bytes_->hash());
  EXPECT_EQ(found.hash, manifest.hash);
  EXPECT_EQ(found.documents, 2);
  EXPECT_EQ(found.bytes, 8);
  EXPECT_EQ(found.part, "all");
  write_file(scratch_ / "out/text.json", "{\"hash\": 3}");
  EXPECT_THROW(read_manifest(scratch_ / "out/text"), DataError);
}

TEST_F(Corpus, SplitsOneDocumentByBytes) {
  std::string text(1001, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 23);
  const auto source = file("a.txt", text);
  EXPECT_TRUE(both_parts({source}, "") == text);
  EXPECT_EQ(build({source}, TextPart::kTrain).bytes, 900);
  EXPECT_EQ(build({source}, TextPart::kValid).bytes, 101);
}

TEST_F(Corpus, NeverSplitsInsideACharacter) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "\xE2\x82\xAC";
  for (std::size_t size = 297; size <= 300; ++size) {
    const auto source = file("a.txt", "aaa" + text.substr(0, size) + "bbb");
    config_.separator = "";
    const auto train = build({source}, TextPart::kTrain);
    EXPECT_EQ((train.bytes - 3) % 3, 0) << size;
    EXPECT_EQ(train.invalid_utf8, 0);
  }
}

TEST_F(Corpus, SplitsManyDocumentsBetweenThem) {
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += "document " + std::to_string(i) + " says something\n<|endoftext|>\n";
  const auto source = file("a.txt", text);
  const auto train = build({source}, TextPart::kTrain);
  EXPECT_EQ(train.documents, 180);
  build({source}, TextPart::kValid);
  const auto valid = documents();
  ASSERT_EQ(valid.size(), 20u);
  EXPECT_EQ(valid.front(), "document 180 says something\n");
  EXPECT_EQ(valid.back(), "document 199 says something\n");
}

TEST_F(Corpus, CutsALongDocumentWhereWholeOnesWouldMissTheShare) {
  const std::string big(1000, 'b'), text = std::string(1000, 'a') + "\n<|endoftext|>\n" + big;
  const auto source = file("a.txt", text);
  EXPECT_EQ(build({source}, TextPart::kTrain).bytes, 1800);
  build({source}, TextPart::kValid);
  EXPECT_THAT(documents(), ElementsAre(std::string(201, 'b')));
}

TEST_F(Corpus, SplitsJsonLinesToo) {
  std::string text, wanted;
  for (int i = 0; i < 57; ++i) {
    text += "{\"text\": \"number " + std::to_string(i) + "\"}\n";
    wanted += "number " + std::to_string(i);
  }
  EXPECT_EQ(both_parts({file("a.jsonl", text)}, ""), wanted);
  const std::string one(500, 'x');
  EXPECT_EQ(both_parts({file("b.jsonl", "{\"text\": \"" + one + "\"}")}, ""), one);
}

// The first nine tenths of its 1,115,394 bytes, rounded down, train (karpathy/char-rnn).
TEST_F(Corpus, UsesTheUsualSplitOfTinyShakespeare) {
  std::string text;
  for (int line = 0; text.size() < 1115394; ++line)
    text += std::string(static_cast<std::size_t>(line % 47), 'x') + "\n";
  text.resize(1115394);
  EXPECT_EQ(build({file("a.txt", text)}, TextPart::kTrain).bytes, 1003854);
  EXPECT_EQ(build({file("a.txt", text)}, TextPart::kValid).bytes, 111540);
}

TEST_F(Corpus, BuildsBothFilesOfATraining) {
  config_.train = {file("a.txt", std::string(1000, 'a'))};
  auto sets = build_token_sets(config_, *bytes_, scratch_ / "runs/data", 1, true);
  EXPECT_EQ(TokenFile(scratch_ / "runs/data/train").size(), 901);
  EXPECT_EQ(TokenFile(scratch_ / "runs/data/valid").size(), 101);
  EXPECT_EQ(sets.train_tokens->size(), 901);
  EXPECT_EQ(sets.valid_tokens->size(), 101);
  EXPECT_NE(sets.train_manifest.hash, sets.valid_manifest.hash);
  config_.valid = {file("b.txt", "bbb")};
  config_.cache = (scratch_ / "cache").string();
  sets = build_token_sets(config_, *bytes_, scratch_ / "runs/data", 1, true);
  EXPECT_EQ(TokenFile(scratch_ / "cache/train").size(), 1001);
  EXPECT_EQ(TokenFile(scratch_ / "cache/valid").size(), 4);
}

TEST_F(Corpus, SaysWhenThereIsNothingToValidateOn) {
  EXPECT_THROW(build_token_sets(config_, *bytes_, scratch_ / "x", 1, true), ConfigError);
  config_.train = {file("a.txt", "text")};
  config_.valid_fraction = 0;
  EXPECT_THROW(build_token_sets(config_, *bytes_, scratch_ / "x", 1, true), ConfigError);
}

TEST_F(Corpus, GivesPiecesToTrainATokenizerOn) {
  const auto source = file("a.txt", large_text());
  std::string joined;
  for (const auto& piece : read_pieces({source}, config_)) {
    EXPECT_LE(piece.size(), std::size_t{256} << 10);
    joined += piece;
  }
  EXPECT_EQ(static_cast<std::int64_t>(joined.size()), build({source}).bytes);
  std::size_t some = 0;
  for (const auto& piece : read_pieces({source}, config_, TextPart::kAll, 400000))
    some += piece.size();
  EXPECT_GT(some, 0u);
  EXPECT_LT(some, 800000u);
  EXPECT_LT(read_pieces({source}, config_, TextPart::kTrain).size(), 20u);
  EXPECT_THROW(read_pieces({file("e.txt", "")}, config_), DataError);
}

}  // namespace
}  // namespace rwkvx
