#include "rwkvx/eval/side_by_side.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"
#include "rwkvx/report/html.h"

namespace rwkvx {
namespace {

struct Word {
  std::size_t begin, end;  // bytes
  std::uint32_t id;
};

// The words of a text, where they are, numbered so that equal ones without case are equal.
std::vector<Word> words_of(std::string_view text, std::map<std::string, std::uint32_t>& ids) {
  std::vector<std::uint32_t> codes;
  decode_utf8(text, codes);
  std::vector<std::size_t> starts;  // of each code point in bytes
  std::string one;
  std::size_t at = 0;
  for (const auto code : codes) {
    starts.push_back(at);
    one.clear();
    append_utf8(code, one);
    at += one.size();
  }
  starts.push_back(at);
  std::vector<Word> words;
  unicode::for_each_word(codes, [&](std::span<const std::uint32_t> word) {
    const auto first = static_cast<std::size_t>(word.data() - codes.data());
    std::vector<std::uint32_t> small(word.begin(), word.end());
    unicode::lower(small);
    std::string name;
    for (const auto code : small) append_utf8(code, name);
    const auto id = ids.emplace(name, static_cast<std::uint32_t>(ids.size())).first->second;
    words.push_back({starts[first], starts[first + word.size()], id});
  });
  return words;
}

std::string marked(std::string_view text, const std::vector<Word>& words,
                   const std::vector<bool>& taken) {
  std::string html;
  std::size_t at = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (!taken[i]) continue;
    html += escape_html(text.substr(at, words[i].begin - at)) + "<mark>" +
            escape_html(text.substr(words[i].begin, words[i].end - words[i].begin)) + "</mark>";
    at = words[i].end;
  }
  return html + escape_html(text.substr(at));
}

}  // namespace

std::string html_side_by_side(std::string_view left_title, std::string_view left,
                              std::string_view right_title, std::string_view right,
                              std::size_t most_words) {
  std::map<std::string, std::uint32_t> ids;
  const auto a = words_of(left, ids), b = words_of(right, ids);
  std::vector<bool> in_a(a.size()), in_b(b.size());
  if (a.size() <= most_words && b.size() <= most_words) {
    const auto width = b.size() + 1;
    std::vector<std::uint16_t> table((a.size() + 1) * width);
    for (std::size_t i = 1; i <= a.size(); ++i)
      for (std::size_t j = 1; j < width; ++j)
        table[i * width + j] = a[i - 1].id == b[j - 1].id
                                   ? static_cast<std::uint16_t>(table[(i - 1) * width + j - 1] + 1)
                                   : std::max(table[(i - 1) * width + j], table[i * width + j - 1]);
    for (std::size_t i = a.size(), j = b.size(); i > 0 && j > 0;) {
      if (a[i - 1].id == b[j - 1].id)
        in_a[--i] = true, in_b[--j] = true;
      else if (table[i * width + j - 1] > table[(i - 1) * width + j])
        --j;
      else
        --i;
    }
  }
  return "<div class=\"pair\"><div><b>" + escape_html(left_title) + "</b>" + marked(left, a, in_a) +
         "</div><div><b>" + escape_html(right_title) + "</b>" + marked(right, b, in_b) +
         "</div></div>\n";
}

}  // namespace rwkvx
