#include "rwkvx/metrics/bleu.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/field.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/chrf.h"
#include "rwkvx/metrics/mecab.h"
#include "rwkvx/metrics/metric.h"
#include "rwkvx/metrics/unicode.h"
#include "rwkvx/text/sentence_pieces.h"
#include "support/golden.h"

namespace rwkvx {
namespace {

using nlohmann::json;

struct Segment {
  std::string id, prediction;
  std::vector<std::string> references;
  json sentence;
  std::vector<std::string_view> first(std::size_t count) const {
    return {references.begin(),
            references.begin() + static_cast<std::ptrdiff_t>(std::min(count, references.size()))};
  }
};

std::vector<json> read_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<json> lines;
  for (std::string line; std::getline(file, line);)
    if (!line.empty()) lines.push_back(json::parse(line));
  return lines;
}

std::vector<Segment> read_segments(const std::filesystem::path& golden) {
  std::vector<Segment> segments;
  for (const auto& line : read_lines(golden / "segments.jsonl"))
    segments.push_back({line.value("id", ""), line["prediction"],
                        line["references"].get<std::vector<std::string>>(), line["sentence"]});
  return segments;
}

// "tok" of "nrefs:1|case:mixed|eff:no|tok:13a|smooth:add-k[1.00]".
std::string part(const std::string& signature, const std::string& name) {
  const auto at = ("|" + signature + "|").find("|" + name + ":");
  if (at == std::string::npos) return "";
  const auto begin = at + name.size() + 1;
  return signature.substr(begin, signature.find('|', begin) - begin);
}

double smooth_value(const std::string& smooth) {
  return std::stod(smooth.substr(smooth.find('[') + 1));
}

void expect_bleu(const std::filesystem::path& golden, const std::vector<Segment>& segments,
                 const json& wanted, const std::string& name) {
  const std::string signature = wanted["signature"];
  const auto tok = part(signature, "tok"), smooth = part(signature, "smooth");
  const auto tokenizer = read_enum<BleuTokenizer>(tok, "tok");
  BleuCutter cutter;
  if (uses_pieces(tokenizer)) cutter = sentence_piece_cutter(golden / "pieces.model");
  BleuCounter counter(tokenizer, part(signature, "case") == "lc", cutter);
  BleuCounts counts;
  for (const auto& segment : segments)
    counts += counter.count(segment.prediction, segment.first(wanted["refs"]));
  const auto found = smooth == "none" ? bleu_score(counts, BleuSmoothing::kNone)
                     : smooth.starts_with("floor")
                         ? bleu_score(counts, BleuSmoothing::kFloor, smooth_value(smooth))
                     : smooth.starts_with("add-k")
                         ? bleu_score(counts, BleuSmoothing::kAddK, smooth_value(smooth))
                         : bleu_score(counts, BleuSmoothing::kExp);
  EXPECT_NEAR(found.score, wanted["score"].get<double>(), 1e-9) << name;
  EXPECT_NEAR(found.brevity_penalty, wanted["bp"].get<double>(), 1e-12) << name;
  EXPECT_EQ(static_cast<double>(counts.predicted_length), wanted["sys_len"].get<double>()) << name;
  EXPECT_EQ(static_cast<double>(counts.reference_length), wanted["ref_len"].get<double>()) << name;
  for (std::size_t n = 0; n < 4; ++n) {
    EXPECT_NEAR(found.precisions[n], wanted["precisions"][n].get<double>(), 1e-9) << name;
    if (smooth.starts_with("add-k")) continue;  // there the golden counts have k in them
    EXPECT_EQ(counts.hits[n], wanted["counts"][n].get<std::uint64_t>()) << name;
    EXPECT_EQ(counts.totals[n], wanted["totals"][n].get<std::uint64_t>()) << name;
  }
}

void expect_golden_corpus(const std::filesystem::path& golden) {
  const auto all = read_segments(golden);
  std::ifstream file(golden / "corpus.json");
  const auto corpus = json::parse(file)["corpus"];
  ASSERT_FALSE(corpus.empty());
  for (const auto& [name, wanted] : corpus.items()) {
    auto segments = all;
    if (wanted.contains("segments")) {
      const auto begin = wanted["segments"][0].get<std::ptrdiff_t>();
      const auto end = wanted["segments"][1].get<std::ptrdiff_t>();
      segments = {all.begin() + begin, all.begin() + end};
    }
    const std::string signature = wanted["signature"];
    if (part(signature, "nc").empty()) {
      expect_bleu(golden, segments, wanted, name);
      continue;
    }
    const auto order = [&](const char* one) {
      return static_cast<std::size_t>(std::stoi(part(signature, one)));
    };
    const ChrfOptions options{.char_order = order("nc"),
                              .word_order = order("nw"),
                              .beta = wanted.value("beta", 2.0),
                              .whitespace = part(signature, "space") == "yes",
                              .lowercase = part(signature, "case") == "lc",
                              .eps_smoothing = part(signature, "eff") == "no"};
    ChrfCounter counter(options);
    ChrfCounts counts;
    for (const auto& segment : segments)
      counts += counter.count(segment.prediction, segment.first(wanted["refs"]));
    EXPECT_NEAR(chrf_score(counts, options), wanted["score"].get<double>(), 1e-9) << name;
  }
}

TEST(Bleu, EqualsEveryGoldenCorpusScoreAndSoDoesChrf) {
  RWKVX_FOR_EACH_GOLDEN("bleu") expect_golden_corpus(golden);
}

void expect_golden_sentences(const std::filesystem::path& golden) {
  BleuCounter bleu;
  const ChrfOptions words{.word_order = 2};
  ChrfCounter chrf, chrf_words(words);
  for (const auto& segment : read_segments(golden)) {
    const auto references = segment.first(segment.references.size());
    const auto found = bleu_score(bleu.count(segment.prediction, references), BleuSmoothing::kExp,
                                  std::nullopt, /*effective_order=*/true);
    EXPECT_NEAR(found.score, segment.sentence["bleu"].get<double>(), 1e-9) << segment.id;
    EXPECT_NEAR(chrf_score(chrf.count(segment.prediction, references), {}),
                segment.sentence["chrf"].get<double>(), 1e-9)
        << segment.id;
    EXPECT_NEAR(chrf_score(chrf_words.count(segment.prediction, references), words),
                segment.sentence["chrfpp"].get<double>(), 1e-9)
        << segment.id;
  }
}

TEST(Bleu, EqualsEveryGoldenSentenceScoreAndSoDoesChrf) {
  RWKVX_FOR_EACH_GOLDEN("bleu") expect_golden_sentences(golden);
}

TEST(Bleu, CutsEveryGoldenTextAs13a) {
  RWKVX_FOR_EACH_GOLDEN("bleu") {
    const auto cases = read_lines(golden / "tok13a.jsonl");
    EXPECT_FALSE(cases.empty());
    for (const auto& item : cases)
      EXPECT_EQ(bleu_tokens(item["text"].get<std::string>(), BleuTokenizer::k13a),
                item["tokens"].get<std::string>())
          << item["text"];
  }
}

TEST(Bleu, CutsEveryGoldenTextAsZh) {
  std::size_t tried = 0;
  RWKVX_FOR_EACH_GOLDEN("bleu") {
    for (const auto& item : read_lines(golden / "tokzh.jsonl")) {
      ++tried;
      EXPECT_EQ(bleu_tokens(item["text"].get<std::string>(), BleuTokenizer::kZh),
                item["tokens"].get<std::string>())
          << item["text"];
    }
  }
  EXPECT_GT(tried, 60U);
}

// The cases of a golden file by MeCab, where it is installed.
void expect_mecab_cuts(const char* name, const MecabSetup& setup) {
  Mecab mecab;
  try {
    mecab = open_mecab(setup);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  RWKVX_FOR_EACH_GOLDEN("bleu") {
    for (const auto& item : read_lines(golden / name)) {
      auto tokens = mecab.cut(item["text"].get<std::string>());
      while (!tokens.empty() && (tokens.back() == ' ' || tokens.back() == '\n')) tokens.pop_back();
      EXPECT_EQ(tokens, item["tokens"].get<std::string>()) << item["text"];
    }
  }
}

TEST(Bleu, CutsEveryGoldenTextAsJapaneseMecab) { expect_mecab_cuts("tokja.jsonl", {}); }

TEST(Bleu, CutsEveryGoldenTextAsKoreanMecab) {
  const char *dictionary = std::getenv("RWKVX_MECAB_KO_DIC"),
             *library = std::getenv("RWKVX_MECAB_KO");
  if (dictionary == nullptr || library == nullptr)
    GTEST_SKIP() << "set RWKVX_MECAB_KO (mecab-ko's library) and RWKVX_MECAB_KO_DIC";
  expect_mecab_cuts("tokko.jsonl", {.korean = true, .dictionary = dictionary, .library = library});
}

TEST(Bleu, SaysWhatIsMissingOfMecab) {
  const auto refused = [](const nlohmann::json& settings, const std::string& text) {
    try {
      parse_metrics("bleu", {{"BLEU", settings}}, "test");
      ADD_FAILURE() << "expected an error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
    }
  };
  refused({{"bleu_tokenizer", "ja-mecab"}, {"mecab_library", "/none.so"}},
          "expected MeCab's library");
  refused({{"bleu_tokenizer", "ja-mecab"}, {"mecab_library", "libc.so.6"}}, "it has no mecab_new");
  refused({{"bleu_tokenizer", "ko-mecab"}}, "expected the directory of mecab-ko-dic");
  refused({{"mecab_library", "x"}}, "requires --bleu-tokenizer ja-mecab or ko-mecab");
}

TEST(Bleu, IntlPartsByUnicodeClasses) {
  EXPECT_EQ(bleu_tokens("«Où?» 3,5 €5 a.b 10% x-y。", BleuTokenizer::kIntl),
            "« Où ? » 3,5 € 5 a . b 10 % x - y 。");
}

TEST(Bleu, CharHasOneTokenForEachCharacter) {
  EXPECT_EQ(bleu_tokens("a é\n中\xff", BleuTokenizer::kChar), "a é 中 \xff");
}

TEST(Bleu, EmptyTextsScoreZero) {
  BleuCounter counter;
  ChrfCounter chrf(ChrfOptions{.word_order = 2});
  const std::vector<std::string_view> empty = {""}, word = {"a"};
  for (const auto& [prediction, references] :
       std::vector<std::pair<std::string, std::vector<std::string_view>>>{
           {"", empty}, {"", word}, {"a", empty}}) {
    EXPECT_EQ(bleu_score(counter.count(prediction, references)).score, 0);
    EXPECT_EQ(chrf_score(chrf.count(prediction, references), {}), 0);
  }
}

std::string lower(const std::string& text) {
  std::vector<std::uint32_t> codes;
  decode_utf8(text, codes);
  unicode::lower(codes);
  std::string out;
  for (const auto code : codes) append_utf8(code, out);
  return out;
}

TEST(Unicode, LowersAsPythonDoes) {
  EXPECT_EQ(lower("ÀÉ Ÿ ŽĲ ẞ Ǆ Ⅷ Ⓐ Ａ 𐐀 Ω ℧ İ"), "àé ÿ žĳ ß ǆ ⅷ ⓐ ａ 𐐨 ω ℧ i̇");
  EXPECT_EQ(lower("ΣΑΣ Σ ΑΣ. ΑΣΑ Α'Σ' 1Σ"), "σας σ ας. ασα α'ς' 1σ");
}

TEST(Unicode, BytesThatAreNotUtf8ComeBackAsTheyWere) {
  const std::string bytes = "\x80\xc0\xaf\xe2\x84\xf5\xed\xa0\x80\xf4\x90\x80\x80 ok \xc3";
  EXPECT_EQ(lower(bytes), bytes);
}

}  // namespace
}  // namespace rwkvx
