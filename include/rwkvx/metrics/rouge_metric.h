// ROUGE as a metric of the table, and its settings.
#pragma once

#include <string>
#include <tuple>

#include "rwkvx/base/field.h"
#include "rwkvx/metrics/rouge.h"
#include "rwkvx/metrics/sentences.h"

namespace rwkvx {

struct RougeSettings {
  bool stemmer = false;
  RougeTokenization tokenizer = RougeTokenization::kGoogle;
  std::string spm_model;
  RougeReferences several = RougeReferences::kBest;
  RougeLines lines = RougeLines::kNewline;

  static constexpr auto fields() {
    using C = RougeSettings;
    return std::tuple{
        Field<C, bool>{"stemmer", &C::stemmer, "ROUGE: compare the Porter stems of words"},
        renamed("tokenizer",
                Field<C, RougeTokenization>{
                    "rouge_tokenizer", &C::tokenizer,
                    "ROUGE: google (a-z and 0-9), unicode (words of every script), char or spm"}),
        Field<C, std::string>{"spm_model", &C::spm_model,
                              "ROUGE: sentencepiece model file for --rouge-tokenizer spm"},
        Field<C, RougeReferences>{"several", &C::several,
                                  "ROUGE with several references: best, jackknife or mean"},
        Field<C, RougeLines>{"rouge_lines", &C::lines,
                             "ROUGE: what ends a sentence of rougeLsum: newline, mark (<n>) or "
                             "split (a rule for sentence ends)"},
    };
  }
  void check(const std::string& where) const;
};

// Loads the sentencepiece model where there is one. Throws DataError or FileError as
// load_tokenizer() does.
RougeTokens rouge_tokens(const RougeSettings& settings);

}  // namespace rwkvx
