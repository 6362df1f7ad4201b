// Sentences of a text, for scores that look at them one by one.
#pragma once

#include <string>
#include <string_view>

namespace rwkvx {

// What ends a sentence for rougeLsum. newline: a line end, as in rouge-score. mark: a line end or
// "<n>", which is one in the outputs of PEGASUS and its like. split: a line end or what
// split_sentences() finds.
enum class RougeLines { kNewline, kMark, kSplit };
constexpr std::string_view enum_names(RougeLines) { return "newline|mark|split"; }

// The text with a line end for each "<n>", and no blanks around it.
std::string break_at_marks(std::string_view text);

// The text with a line end in place of the white space after each sentence: after . ! ? … and
// closing quotes or brackets, unless a lower-case letter of a-z follows or the full stop ends an
// initial ("J. Smith") or a usual English abbreviation; and after 。！？ and closing marks. A rule
// of thumb: NLTK's trained model, which rouge-score's split_summaries uses, may cut elsewhere.
std::string split_sentences(std::string_view text);

}  // namespace rwkvx
