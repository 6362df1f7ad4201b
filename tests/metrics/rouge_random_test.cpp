// ROUGE against the definitions written out a second time: tables, maps and all pairs of words.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/rouge.h"
#include "rwkvx/metrics/unicode.h"
#include "support/long_tests.h"

namespace rwkvx {
namespace {

using Tokens = std::vector<std::string>;
using Counts = std::map<Tokens, double>;

Tokens cut(const std::string& text) {
  Tokens tokens(1);
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      tokens.back() += static_cast<char>(std::tolower(c));
    else if (!tokens.back().empty())
      tokens.emplace_back();
  }
  if (tokens.back().empty()) tokens.pop_back();
  return tokens;
}

std::vector<Tokens> cut_lines(const std::string& text) {
  std::vector<Tokens> lines;
  std::string line;
  for (const char c : text + "\n") {
    if (c != '\n') {
      line += c;
      continue;
    }
    if (!line.empty()) lines.push_back(cut(line));
    line.clear();
  }
  return lines;
}

RougeScore from_shares(double precision, double recall) {
  const double sum = precision + recall;
  return {precision, recall, sum > 0 ? 2 * precision * recall / sum : 0};
}

RougeScore from_counts(double hits, double predicted, double wanted) {
  return from_shares(predicted > 0 ? hits / predicted : 0, wanted > 0 ? hits / wanted : 0);
}

RougeScore from_units(const Counts& predicted, const Counts& wanted) {
  double hits = 0, all_predicted = 0, all_wanted = 0;
  for (const auto& [unit, count] : predicted) all_predicted += count;
  for (const auto& [unit, count] : wanted) {
    all_wanted += count;
    const auto found = predicted.find(unit);
    if (found != predicted.end()) hits += std::min(count, found->second);
  }
  return from_counts(hits, all_predicted, all_wanted);
}

Counts ngrams(const Tokens& tokens, int n) {
  Counts counts;
  for (std::size_t i = 0; i + static_cast<std::size_t>(n) <= tokens.size(); ++i) {
    Tokens gram;
    for (int k = 0; k < n; ++k) gram.push_back(tokens[i + static_cast<std::size_t>(k)]);
    ++counts[gram];
  }
  return counts;
}

Counts skips(const Tokens& tokens, int skip, bool unigrams) {
  Counts counts;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (unigrams) ++counts[{tokens[i]}];
    for (std::size_t j = i + 1; j < tokens.size(); ++j)
      if (skip < 0 || j - i - 1 <= static_cast<std::size_t>(skip)) ++counts[{tokens[i], tokens[j]}];
  }
  return counts;
}

std::vector<std::vector<int>> table(const Tokens& a, const Tokens& b) {
  std::vector<std::vector<int>> t(a.size() + 1, std::vector<int>(b.size() + 1, 0));
  for (std::size_t i = 1; i <= a.size(); ++i)
    for (std::size_t j = 1; j <= b.size(); ++j)
      t[i][j] = a[i - 1] == b[j - 1] ? t[i - 1][j - 1] + 1 : std::max(t[i - 1][j], t[i][j - 1]);
  return t;
}

RougeScore lsum(const std::string& prediction, const std::string& reference) {
  const auto predicted = cut_lines(prediction), wanted = cut_lines(reference);
  std::map<std::string, int> left_predicted, left_wanted;
  for (const auto& token : cut(prediction)) ++left_predicted[token];
  for (const auto& token : cut(reference)) ++left_wanted[token];
  double hits = 0;
  for (const auto& line : wanted) {
    std::set<std::size_t> taken;
    for (const auto& other : predicted) {
      const auto t = table(line, other);
      for (std::size_t i = line.size(), j = other.size(); i > 0 && j > 0;) {
        if (line[i - 1] == other[j - 1])
          --j, taken.insert(--i);
        else if (t[i][j - 1] > t[i - 1][j])
          --j;
        else
          --i;
      }
    }
    for (const auto i : taken)
      if (left_predicted[line[i]] > 0 && left_wanted[line[i]] > 0) {
        --left_predicted[line[i]], --left_wanted[line[i]];
        ++hits;
      }
  }
  return from_counts(hits, static_cast<double>(cut(prediction).size()),
                     static_cast<double>(cut(reference).size()));
}

// The paper's procedure, with both of its tables.
RougeScore weighted(const Tokens& x, const Tokens& y, double weight) {
  const auto f = [&](double k) { return std::pow(k, weight); };
  std::vector<std::vector<double>> c(x.size() + 1, std::vector<double>(y.size() + 1, 0)), w = c;
  for (std::size_t i = 1; i <= x.size(); ++i)
    for (std::size_t j = 1; j <= y.size(); ++j) {
      if (x[i - 1] == y[j - 1]) {
        const double k = w[i - 1][j - 1];
        c[i][j] = c[i - 1][j - 1] + f(k + 1) - f(k);
        w[i][j] = k + 1;
      } else {
        c[i][j] = std::max(c[i - 1][j], c[i][j - 1]);
      }
    }
  const double all = c[x.size()][y.size()];
  const auto share = [&](std::size_t size) {
    return size == 0 ? 0 : std::pow(all / f(static_cast<double>(size)), 1 / weight);
  };
  return from_shares(share(y.size()), share(x.size()));
}

RougeScore slow(const RougeType& type, const std::string& prediction,
                const std::string& reference) {
  using Kind = RougeType::Kind;
  const auto predicted = cut(prediction), wanted = cut(reference);
  const bool unigrams = type.kind == Kind::kSkipBigramsUnigrams;
  switch (type.kind) {
    case Kind::kNgrams:
      return from_units(ngrams(predicted, type.n), ngrams(wanted, type.n));
    case Kind::kLcs:
      return from_counts(table(wanted, predicted).back().back(),
                         static_cast<double>(predicted.size()), static_cast<double>(wanted.size()));
    case Kind::kLcsSum:
      return lsum(prediction, reference);
    case Kind::kWeightedLcs:
      return weighted(wanted, predicted, type.weight);
    default:
      return from_units(skips(predicted, type.n, unigrams), skips(wanted, type.n, unigrams));
  }
}

double away(const RougeScore& a, const RougeScore& b) {
  return std::max(
      {std::abs(a.precision - b.precision), std::abs(a.recall - b.recall), std::abs(a.f1 - b.f1)});
}

std::string random_text(std::mt19937& random) {
  static const Tokens separators = {" ", " ", " ", "\n", ", ", "-", ".\n", "  ", "\xe4\xb8\xad"};
  const std::size_t words = random() % (random() % 8 == 0 ? 60 : 14);
  const unsigned vocabulary = 1 + random() % 12;
  std::string text;
  for (std::size_t i = 0; i < words; ++i) {
    const auto word = random() % vocabulary;
    text += std::string(1 + word % 3, static_cast<char>((random() % 2 == 0 ? 'a' : 'A') + word));
    if (word % 5 == 4) text += std::to_string(word);
    text += separators[random() % separators.size()];
  }
  return text;
}

std::vector<RougeType> types_of(const Tokens& names) {
  std::vector<RougeType> types;
  for (const auto& name : names) types.push_back(rouge_type(name).value());
  return types;
}

TEST(RougeRandomSlow, RandomPairsEqualTheDefinitions) {
  const auto types =
      types_of({"rouge1", "rouge2", "rouge3", "rouge6", "rougeL", "rougeLsum", "rougeW", "rougeW2",
                "rougeS", "rougeS0", "rougeS4", "rougeSU", "rougeSU4"});
  RougeScorer scorer(types, false);
  std::mt19937 random(20260806);
  std::vector<RougeScore> found(types.size());
  std::vector<std::size_t> not_zero(types.size(), 0);
  for (int pair = 0; pair < test::rounds(20'000, 100'000); ++pair) {
    const auto prediction = random_text(random), reference = random_text(random);
    const std::string_view view = reference;
    scorer.score(prediction, {&view, 1}, found);
    for (std::size_t i = 0; i < types.size(); ++i) {
      const auto wanted = slow(types[i], prediction, reference);
      ASSERT_LE(away(found[i], wanted), 1e-12)
          << rouge_name(types[i]) << " of pair " << pair << "\n"
          << prediction << "\n---\n"
          << reference;
      not_zero[i] += wanted.f1 > 0;
    }
  }
  for (std::size_t i = 0; i < types.size(); ++i)
    EXPECT_GT(not_zero[i], static_cast<std::size_t>(test::rounds(20, 100)))
        << rouge_name(types[i]) << " was hardly tried";
}

TEST(RougeRandom, JackknifeIsTheMeanOverAllChoicesButOne) {
  const auto types = types_of({"rouge1", "rougeL", "rougeSU4"});
  RougeScorer jackknife(types, RougeTokens{}, RougeReferences::kJackknife);
  RougeScorer best(types, RougeTokens{});
  std::mt19937 random(7);
  for (int pair = 0; pair < 2000; ++pair) {
    const auto prediction = random_text(random);
    Tokens references(1 + random() % 5);
    for (auto& reference : references) reference = random_text(random);
    const std::vector<std::string_view> views(references.begin(), references.end());
    std::vector<RougeScore> found(types.size()), part(types.size()), sum(types.size());
    jackknife.score(prediction, views, found);
    for (std::size_t out = 0; out < views.size(); ++out) {
      auto others = views;
      if (views.size() > 1) others.erase(others.begin() + static_cast<std::ptrdiff_t>(out));
      best.score(prediction, others, part);
      for (std::size_t i = 0; i < types.size(); ++i) {
        sum[i].precision += part[i].precision;
        sum[i].recall += part[i].recall;
        sum[i].f1 += part[i].f1;
      }
    }
    const auto n = static_cast<double>(views.size());
    for (std::size_t i = 0; i < types.size(); ++i)
      ASSERT_LE(away(found[i], {sum[i].precision / n, sum[i].recall / n, sum[i].f1 / n}), 1e-12);
  }
}

// Lin's examples: S1 is the reference of S2, S3 and S4 (section 5), X of Y1 and Y2 (section 4).
TEST(Rouge2004, GivesTheScoresOfThePapersExamples) {
  RougeScorer scorer(types_of({"rougeS", "rougeW2"}), false);
  const std::string s1 = "police killed the gunman";
  EXPECT_NEAR(scorer.score("police kill the gunman", s1).f1, 0.5, 1e-12);
  EXPECT_NEAR(scorer.score("the gunman kill police", s1).f1, 1.0 / 6, 1e-12);
  EXPECT_NEAR(scorer.score("the gunman police killed", s1).f1, 2.0 / 6, 1e-12);
  EXPECT_NEAR(scorer.score("a b c d h i k", "a b c d e f g", 1).f1, 4.0 / 7, 1e-12);
  EXPECT_NEAR(scorer.score("a h b k c i d", "a b c d e f g", 1).f1, 2.0 / 7, 1e-12);
}

TEST(RougeTokenizations, CutTextsOfEveryScript) {
  const auto f1 = [](RougeTokenization kind, bool stemmer, const std::string& prediction,
                     const std::string& reference) {
    return RougeScorer(types_of({"rouge1"}), RougeTokens{.kind = kind, .stemmer = stemmer})
        .score(prediction, reference)
        .f1;
  };
  const auto kUnicode = RougeTokenization::kUnicode, kChar = RougeTokenization::kChar;
  EXPECT_EQ(f1(RougeTokenization::kGoogle, false, "Привет мир", "привет мир"), 0);
  EXPECT_EQ(f1(kUnicode, false, "Привет, мир!", "привет мир"), 1);
  EXPECT_EQ(f1(kUnicode, false, "我爱你", "我爱他"), 2.0 / 3);
  EXPECT_EQ(f1(kUnicode, false, "مرحبا بالعالم", "مرحبا يا عالم"), 0.4);
  EXPECT_EQ(f1(kUnicode, true, "running слова", "runs слово"), 0.5);
  EXPECT_EQ(f1(kChar, false, "A b", "ab"), 1);
  EXPECT_EQ(f1(kUnicode, false, "\xff\xfe", "\xff"), 0);
  RougeTokens given{.kind = RougeTokenization::kGiven,
                    .given = [](std::string_view line, std::vector<std::int32_t>& ids) {
                      for (const char c : line) ids.push_back(c % 2);
                    }};
  EXPECT_EQ(RougeScorer(types_of({"rougeL"}), given).score("ac", "ee").f1, 1);
}

TEST(UnicodeWords, FollowTheRulesOfWordBoundaries) {
  const auto words = [](std::string_view text) {
    std::vector<std::uint32_t> codes;
    decode_utf8(text, codes);
    std::string found;
    unicode::for_each_word(codes, [&](std::span<const std::uint32_t> word) {
      if (!found.empty()) found += '|';
      for (const auto code : word) append_utf8(code, found);
    });
    return found;
  };
  EXPECT_EQ(words("The quick (\"brown\") fox can't jump 32.3 feet, right?"),
            "The|quick|brown|fox|can't|jump|32.3|feet|right");
  EXPECT_EQ(words("a.b. c_d _ 1,000,000 x2 'tis l’été"), "a.b|c_d|1,000,000|x2|tis|l’été");
  EXPECT_EQ(words("日本語とカタカナ。漢字"), "日|本|語|と|カタカナ|漢|字");
  EXPECT_EQ(words("e\u0301t\u00ade — 😀 \xff ok"), "e\u0301t\u00ade|ok");
  EXPECT_EQ(words(""), "");
}

}  // namespace
}  // namespace rwkvx
