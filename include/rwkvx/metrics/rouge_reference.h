// ROUGE as its definition reads, slowly: what the fast form is tested against.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rwkvx/metrics/rouge.h"

namespace rwkvx {

std::vector<std::string> rouge_tokens_reference(std::string_view text, bool stemmer);
// The same scores as RougeScorer's for one prediction and one reference, of rougeN, L and Lsum.
RougeScore rouge_reference(const RougeType& type, std::string_view prediction,
                           std::string_view reference, bool stemmer);

}  // namespace rwkvx
