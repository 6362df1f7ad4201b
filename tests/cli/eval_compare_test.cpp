// The command eval on several systems, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "support/program.h"

namespace rwkvx {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class EvalCompare : public ::testing::Test {
 protected:
  std::string path(const std::string& name) const { return (scratch_ / name).string(); }
  // Forty samples of which the prediction has each word right with the chance `right` of 100.
  std::string system(const std::string& name, unsigned right, std::uint32_t seed) const {
    std::mt19937 random(seed);
    std::string lines;
    for (int i = 0; i < 40; ++i) {
      std::string reference, prediction;
      for (int k = 0; k <= i % 12; ++k) {
        const std::string word = "w" + std::to_string((i * 7 + k * 3) % 50) + " ";
        reference += word;
        prediction += random() % 100 < right ? word : std::string("no ");
      }
      lines += json{{"prompt", "say <b>" + std::to_string(i)},
                    {"reference", reference},
                    {"prediction", prediction}}
                   .dump() +
               "\n";
    }
    write_file(path(name), lines);
    return path(name);
  }
  ScratchDirectory scratch_;
};

TEST_F(EvalCompare, TellsABetterSystemFromAnEqualOne) {
  const auto base = system("base", 50, 1), better = system("better", 90, 2);
  const auto equal = system("equal", 50, 3);
  const auto result = run_program(
      {"eval", "--compare", base, better, equal, "--metrics", "rouge1,chrf", "--resamples", "999"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  ASSERT_EQ(found["systems"].size(), 3U);
  ASSERT_EQ(found["comparisons"].size(), 4U);
  const auto& first = found["comparisons"][0];
  EXPECT_EQ(first["b"], better);
  EXPECT_EQ(first["p_randomization"], 0.001);
  EXPECT_EQ(first["p_holm"], 0.004);
  EXPECT_GT(first["low"].get<double>(), 0.15);
  EXPECT_GT(found["comparisons"][2]["p_randomization"].get<double>(), 0.05);
  EXPECT_NEAR(first["mean_b"].get<double>(),
              found["systems"][1]["scores"]["rouge1"]["f1"].get<double>(), 1e-12);
  std::uint64_t samples = 0;
  for (const auto& bucket : found["by_length"]) samples += bucket["samples"].get<std::uint64_t>();
  EXPECT_EQ(samples, 40U);
  EXPECT_THAT(found["signature"].get<std::string>(),
              AllOf(HasSubstr("resamples:999|seed:0"), HasSubstr("version:rwkvx-")));
}

TEST_F(EvalCompare, SameBytesWhateverTheThreads) {
  const auto base = system("base", 50, 1), better = system("better", 60, 2);
  std::vector<std::string> outputs, pages;
  for (const auto* threads : {"1", "3"}) {
    const auto result = run_program({"eval", "--compare", base, better, "--threads", threads,
                                     "--report", path("page.html"), "--format", "markdown"});
    ASSERT_EQ(result.status, 0) << result.err;
    outputs.push_back(result.out);
    pages.push_back(read_file(path("page.html")));
  }
  EXPECT_EQ(outputs[0], outputs[1]);
  EXPECT_EQ(pages[0], pages[1]);
  EXPECT_THAT(outputs[0], HasSubstr("| system |"));
}

TEST_F(EvalCompare, TheReportIsOnePageThatNeedsNothingElse) {
  const auto base = system("base<script>", 50, 1), better = system("better", 60, 2);
  const auto page = path("page.html");
  const auto result = run_program({"eval", "--compare", base, better, "--report", page});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(read_file(page), AllOf(HasSubstr("<!DOCTYPE html>"), HasSubstr("<svg"),
                                     HasSubstr("<mark>"), HasSubstr("base&lt;script&gt;"),
                                     Not(HasSubstr("<script")), Not(HasSubstr("http"))));
  const auto one = run_program({"eval", "--pairs", base, "--report", page, "--format", "csv"});
  ASSERT_EQ(one.status, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("system,n,rouge1"));
}

TEST_F(EvalCompare, PairsSamplesByTheirIds) {
  const auto write = [&](const std::string& name, const std::vector<std::string>& rows) {
    std::string lines;
    for (const auto& row : rows) lines += "{" + row + "}\n";
    write_file(path(name), lines);
    return path(name);
  };
  const std::vector<std::string> rows{
      R"("id": "a", "prediction": "one two", "reference": "one two")",
      R"("id": 7, "prediction": "x", "reference": "three four five")",
      R"("id": "c", "prediction": "six", "reference": "six seven")"};
  const auto base = write("base", rows), turned = write("turned", {rows[2], rows[0], rows[1]});
  const auto same = run_program({"eval", "--compare", base, base, "--resamples", "99"});
  const auto other = run_program(
      {"eval", "--compare", base, turned, "--resamples", "99", "--report", path("page.html")});
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_EQ(json::parse(other.out)["comparisons"][0]["difference"], 0);
  EXPECT_EQ(json::parse(other.out)["by_length"][0]["means"][0],
            json::parse(same.out)["by_length"][0]["means"][0]);
  EXPECT_EQ(json::parse(other.out)["by_length"][0]["means"][1],
            json::parse(same.out)["by_length"][0]["means"][1]);

  auto missing = rows;
  missing[1].replace(missing[1].find('7'), 1, "8");
  expect_refused(run_program({"eval", "--compare", base, write("missing", missing)}), 3,
                 "missing: has no sample with the id 7 of " + base + ":2");
  // Where an id stands twice, the place counts, and the ids must agree.
  auto twice = rows;
  twice[2].replace(twice[2].find("\"c\""), 3, "\"a\"");
  const auto doubled = write("doubled", twice);
  EXPECT_EQ(run_program({"eval", "--compare", doubled, doubled, "--resamples", "99"}).status, 0);
  expect_refused(run_program({"eval", "--compare", doubled, base}), 3,
                 "base:3: has the id \"c\" where " + doubled + ":3 has \"a\"");
  // Without ids in one of them the place counts alone.
  auto bare = rows;
  for (auto& row : bare) row.erase(0, row.find(", ") + 2);
  EXPECT_EQ(
      run_program({"eval", "--compare", base, write("bare", bare), "--resamples", "99"}).status, 0);
}

TEST_F(EvalCompare, OneSampleHasNoInterval) {
  const std::string one = "{\"prediction\": \"a\", \"reference\": \"a\"}\n";
  const std::string longer =
      "{\"prediction\": \"a b c d e f g h\", \"reference\": \"a b c d e f g h\"}\n";
  write_file(path("three"), one + longer + longer);
  const auto page = path("page.html");
  const auto several = run_program({"eval", "--pairs", path("three"), "--report", page});
  ASSERT_EQ(several.status, 0) << several.err;
  EXPECT_THAT(read_file(page), AllOf(HasSubstr("<td>1</td><td>1</td><td>100.00 –</td>"),
                                     HasSubstr("<td>2</td><td>100.00 [100.00, 100.00]</td>")));
  write_file(path("one"), one);
  const auto alone = run_program({"eval", "--pairs", path("one"), "--report", page});
  ASSERT_EQ(alone.status, 0) << alone.err;
  EXPECT_THAT(read_file(page),
              AllOf(HasSubstr("<td>100.00</td><td>–</td>"), Not(HasSubstr("[100.00, 100.00]"))));
}

TEST_F(EvalCompare, SystemsOfSeveralSeedsAreComparedOverSeedsAndSamples) {
  std::vector<std::string> args = {"eval", "--system", "base"};
  for (std::uint32_t s = 1; s <= 3; ++s) args.push_back(system("a" + std::to_string(s), 50, s));
  args.insert(args.end(), {"--system", "better"});
  for (std::uint32_t s = 4; s <= 6; ++s) args.push_back(system("b" + std::to_string(s), 90, s));
  args.insert(args.end(), {"--metrics", "rouge1,chrf", "--resamples", "499"});
  auto with = [&](const std::vector<std::string>& more) {
    auto all = args;
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all);
  };
  const auto result = with({"--detect", "0.5"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto found = json::parse(result.out);
  ASSERT_EQ(found["systems"].size(), 2U);
  EXPECT_EQ(found["systems"][1]["name"], "better");
  EXPECT_EQ(found["systems"][1]["scores"]["rouge1"]["by_seed"].size(), 3U);
  ASSERT_EQ(found["comparisons"].size(), 2U);
  const auto& first = found["comparisons"][0];
  EXPECT_LT(first["p_bootstrap"].get<double>(), 0.05);
  EXPECT_GT(first["low"].get<double>(), 0);
  EXPECT_NEAR(first["p_permutation"].get<double>(), 0.1, 1e-12);
  EXPECT_EQ(first["least_p_permutation"], first["p_permutation"]);
  EXPECT_LE(first["seeds_needed"].get<int>(), 3);
  EXPECT_GT(first["seeds_to_detect"].get<int>(), 3);
  EXPECT_THAT(found["signature"].get<std::string>(), HasSubstr("seeds:independent|power:80"));

  const auto page = path("page.html");
  const auto table = with({"--paired-seeds", "--format", "csv", "--report", page});
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("seeds needed"));
  EXPECT_THAT(read_file(page), AllOf(HasSubstr("Single seeds"), Not(HasSubstr("http"))));

  expect_refused(with({"--system", "third", args[3]}), 2, "expected a name and two or more files");
  expect_refused(with({"--system", "base", args[3], args[4]}), 2, "the name \"base\" twice");
  expect_refused(with({"--system", "third", args[3], args[4], "--paired-seeds"}), 2,
                 "as many files of each system");
  expect_refused(with({"--pairs", args[3]}), 2, "--system: cannot be combined");
  expect_refused(with({"--report", args[4]}), 2, "the same file as --system");
  expect_refused(with({"--length-of", "prompt"}), 2, "--length-of: has no effect");
  write_file(path("short"), "{\"prediction\": \"a\", \"reference\": \"b\"}\n");
  expect_refused(with({"--system", "third", path("short"), args[4]}), 3, "has 1 pair but");
}

TEST_F(EvalCompare, RefusesWhatCannotBeCompared) {
  const auto base = system("base", 50, 1);
  write_file(path("short"), "{\"prediction\": \"a\", \"reference\": \"b\"}\n");
  std::string other = read_file(base);
  other.replace(other.find("\"reference\":\"w"), 14, "\"reference\":\"v");
  write_file(path("other"), other);
  const auto refused = [&](std::vector<std::string> args, int status, const std::string& text) {
    args.insert(args.begin(), "eval");
    expect_refused(run_program(args), status, text);
  };
  refused({"--compare", base, path("short")}, 3, "has 1 pair but");
  refused({"--compare", base, path("other")}, 3, "other:1: the references differ from those of");
  refused({"--compare", base}, 2, "expected two or more files");
  refused({"--compare", base, base, "--pairs", base}, 2, "cannot be combined");
  refused({"--report", path("x"), "--predictions", base, "--references", base}, 2, "--report");
  refused({"--pairs", "/dev/null", "--report", path("x")}, 3, "got an empty file");
  refused({"--pairs", base, "--format", "xml"}, 2, "json, csv, markdown");
  refused({"--pairs", base, "--rouge-tokenizer", "words"}, 2, "google, unicode, char");
  refused({"--pairs", base, "--several", "all"}, 2, "jackknife");
}

}  // namespace
}  // namespace rwkvx
