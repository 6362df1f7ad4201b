#include "data/documents.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "rwkvx/base/error.h"
#include "rwkvx/base/json_line.h"
#include "rwkvx/base/nearest.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

constexpr std::size_t kPieceBytes = 256 << 10;
// A document that was searched for its end and is longer than this is dropped from memory before it
// is read again.
constexpr std::size_t kLongDocument = 64 << 20;

// The first place at or before `place` where a character may start.
std::size_t character_start(std::string_view text, std::size_t place) {
  const std::size_t wanted = place;
  while (place > 0 && wanted - place < 3 && place < text.size() && continues_utf8(text[place]))
    --place;
  return place;
}

// The next line that is exactly `separator`, from the line start `from` on: its first byte and
// the byte after its line end, or the end of the text twice.
std::pair<std::size_t, std::size_t> find_separator(std::string_view text, std::size_t from,
                                                   std::string_view separator) {
  if (separator.empty()) return {text.size(), text.size()};
  for (auto at = text.find(separator, from); at != std::string_view::npos;
       at = text.find(separator, at + 1)) {
    if (at != from && text[at - 1] != '\n') continue;
    std::size_t end = at + separator.size();
    if (end < text.size() && text[end] == '\r') ++end;
    if (end == text.size()) return {at, end};
    if (text[end] == '\n') return {at, end + 1};
  }
  return {text.size(), text.size()};
}

// "array", for messages.
std::string kind_of(std::string_view value) {
  const auto name = json_kind_name(value);
  const auto space = name.rfind(' ');
  return space == std::string::npos ? name : name.substr(space + 1);
}

// What a line that is no JSON object holds instead.
[[noreturn]] void refuse_line(std::string_view line, const std::string& where,
                              const JsonLineError& error) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t\r"), line.size()));
  if (line.starts_with('{') || !is_json(line))
    throw DataError(where, "is not valid JSON: " + std::string(error.what()) +
                               "; a .jsonl file holds one JSON object per line");
  const auto kind = kind_of(line);
  throw DataError(where, "expected a JSON object, got " + kind +
                             (kind == "array" ? " (arrays of ids need an ids tokenizer)" : ""));
}

// Calls use(as written, value or none where it is no integer) for each item of a JSON array that
// ends with the text, without keeping them. Throws DataError where it is not such an array.
template <class Use>
void for_each_integer(std::string_view array, const Use& use, const std::string& where) {
  static constexpr std::string_view kBlank = " \t\r\n";
  const auto skip = [&] {
    array.remove_prefix(std::min(array.find_first_not_of(kBlank), array.size()));
  };
  const auto damaged = [&] {
    return DataError(where, "expected an array of integers, \"[1,2,3]\", got \"" +
                                std::string(array.substr(0, 20)) + "\" in it");
  };
  array.remove_prefix(1);
  skip();
  bool first = true;
  for (; !array.starts_with(']'); first = false) {
    if (!first) {
      if (!array.starts_with(',')) throw damaged();
      array.remove_prefix(1);
      skip();
    }
    const auto written = array.substr(0, std::min(array.find_first_of(",] \t\r\n"), array.size()));
    if (written.empty()) throw damaged();
    std::int64_t value = 0;
    const auto [end, error] =
        std::from_chars(written.data(), written.data() + written.size(), value);
    const bool whole = error == std::errc() && end == written.data() + written.size();
    use(written, whole ? std::optional(value) : std::nullopt);
    array.remove_prefix(written.size());
    skip();
  }
  array.remove_prefix(1);
  skip();
  if (!array.empty()) throw damaged();
}

}  // namespace

DocumentReader::DocumentReader(const std::vector<std::string>& sources, const DataConfig& config)
    : sources_(sources), config_(config) {
  if (config.separator.find_first_of("\r\n") != std::string::npos)
    throw ConfigError("data.separator", "must be one line without line ends");
}

bool DocumentReader::next(Document& document) {
  for (;;) {
    if (file_ == nullptr) {
      if (source_ == sources_.size()) return false;
      text_ = open_text(sources_[source_]);
      file_ = std::make_shared<const MappedFile>(text_->path());
      place_ = file_->text().starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
      line_ = 0;
    }
    document = {};
    document.source = source_;
    document.file = file_;
    document.text = text_;
    if (text_->json_lines() ? next_line(document) : next_text(document)) {
      document.end = document.bytes.size();
      return true;
    }
    file_->check();
    file_ = nullptr;
    ++source_;
  }
}

bool DocumentReader::next_text(Document& document) {
  const std::string_view text = file_->text();
  while (place_ < text.size()) {
    const auto [end, next] = find_separator(text, place_, config_.separator);
    document.bytes = text.substr(place_, end - place_);
    if (document.bytes.size() > kLongDocument) file_->drop(place_, document.bytes.size());
    place_ = next;
    if (!document.bytes.empty()) return true;
  }
  return false;
}

bool DocumentReader::next_line(Document& document) {
  const std::string_view text = file_->text();
  while (place_ < text.size()) {
    const std::size_t end = std::min(text.find('\n', place_), text.size());
    document.bytes = text.substr(place_, end - place_);
    document.line = ++line_;
    place_ = std::min(end + 1, text.size());
    if (document.bytes.find_first_not_of(" \t\r") != std::string_view::npos) return true;
  }
  return false;
}

Split find_split(const std::vector<std::string>& sources, const DataConfig& config) {
  std::vector<std::int64_t> sizes;
  std::int64_t total = 0;
  Document document;
  for (DocumentReader reader(sources, config); reader.next(document);) {
    sizes.push_back(static_cast<std::int64_t>(document.bytes.size()));
    total += sizes.back();
  }
  const auto wanted = std::clamp<std::int64_t>(
      static_cast<std::int64_t>(static_cast<double>(total) * (1 - config.valid_fraction)), 0,
      total);
  std::int64_t number = 0, begin = 0;
  for (const std::int64_t size : sizes) {
    if (begin + size > wanted) break;
    begin += size;
    ++number;
  }
  Split split{number, 0, wanted, total - wanted};
  if (number == static_cast<std::int64_t>(sizes.size())) return split;
  const std::int64_t size = sizes[static_cast<std::size_t>(number)], end = begin + size;
  const bool to_end = end - wanted < wanted - begin;
  const std::int64_t boundary = to_end ? end : begin;
  if (2 * std::abs(boundary - wanted) < total - wanted && boundary > 0 && boundary < total) {
    split.document += to_end ? 1 : 0;
    split.train_bytes = boundary;
    split.valid_bytes = total - boundary;
  } else {
    split.offset = static_cast<std::size_t>(wanted - begin);
  }
  return split;
}

PartReader::PartReader(const std::vector<std::string>& sources, const DataConfig& config,
                       TextPart part)
    : reader_(sources, config), part_(part) {
  if (part == TextPart::kAll) {
    for (const auto& source : sources)
      total_bytes_ +=
          static_cast<std::int64_t>(std::filesystem::file_size(open_text(source)->path()));
    return;
  }
  split_ = find_split(sources, config);
  total_bytes_ = part == TextPart::kTrain ? split_.train_bytes : split_.valid_bytes;
}

bool PartReader::next(Document& document) {
  while (reader_.next(document)) {
    const std::int64_t number = number_++;
    if (part_ == TextPart::kAll) return true;
    const bool train = part_ == TextPart::kTrain;
    if (train && number > split_.document) break;
    if (number != split_.document) {
      if (train == (number < split_.document)) return true;
      continue;
    }
    const std::size_t cut =
        document.line > 0 ? split_.offset : character_start(document.bytes, split_.offset);
    (train ? document.end : document.begin) = cut;
    if (document.begin < document.end) return true;
  }
  document = {};  // what was read but not meant must not look like a document
  return false;
}

bool document_ids(const Document& document, const std::vector<std::string>& sources,
                  const std::string& text_field, std::int64_t vocab_size,
                  std::vector<TokenId>& ids) {
  if (document.line == 0) return false;
  const auto& name = document.text ? document.text->name() : sources[document.source];
  const std::string where = name + ":" + std::to_string(document.line);
  auto array = document.bytes;
  array.remove_prefix(std::min(array.find_first_not_of(" \t"), array.size()));
  if (array.starts_with('{')) {
    thread_local JsonLine json;
    try {
      json.read(document.bytes);
    } catch (const JsonLineError&) {
      return false;  // document_text() says what is wrong
    }
    array = json.find(text_field);
  }
  if (!array.starts_with('[')) return false;
  ids.clear();
  for_each_integer(
      array,
      [&](std::string_view written, std::optional<std::int64_t> id) {
        if (!id || *id < 0 || *id >= vocab_size)
          throw DataError(where, "number " + std::to_string(ids.size() + 1) + " of the array is " +
                                     std::string(written.substr(0, 40)) +
                                     ", expected an id from 0 to " +
                                     std::to_string(vocab_size - 1));
        ids.push_back(static_cast<TokenId>(*id));
      },
      where);
  if (document.begin == 0 && document.end == document.bytes.size()) return true;
  // A part of a line stands for the same share of its ids.
  const auto share = [&](std::size_t place) {
    const double fraction = static_cast<double>(place) / static_cast<double>(document.bytes.size());
    return static_cast<std::ptrdiff_t>(fraction * static_cast<double>(ids.size()));
  };
  ids = {ids.begin() + share(document.begin), ids.begin() + share(document.end)};
  return true;
}

std::string_view document_text(const Document& document, const std::vector<std::string>& sources,
                               const std::string& text_field, std::string& storage) {
  if (document.line == 0)
    return document.bytes.substr(document.begin, document.end - document.begin);
  const auto& name = document.text ? document.text->name() : sources[document.source];
  const std::string where = name + ":" + std::to_string(document.line);
  thread_local JsonLine json;
  try {
    json.read(document.bytes);
  } catch (const JsonLineError& error) {
    refuse_line(document.bytes, where, error);
  }
  const auto field = json.find(text_field);
  if (field.empty()) {
    auto names = json.names();
    std::sort(names.begin(), names.end());
    const auto found = name_list(names);
    throw DataError(where, "has no field \"" + text_field + "\"" +
                               (found.empty() ? "" : ", only " + found.substr(0, 100)) +
                               "; name the field with the text: data.text_field in a training, "
                               "--text-field in other commands (eval uses the model's)");
  }
  if (json_kind(field) != JsonKind::kString)
    throw DataError(where, "expected a string in \"" + text_field + "\", got " + kind_of(field));
  storage.clear();
  storage.reserve(field.size());
  if (const auto decoded = json_text(field, storage); storage.empty()) storage = decoded;
  std::string_view text = storage;
  if (document.begin == 0 && document.end == document.bytes.size()) return text;
  // A part of a line stands for the same share of its text.
  const auto share = [&](std::size_t place) {
    const double fraction = static_cast<double>(place) / static_cast<double>(document.bytes.size());
    return character_start(text,
                           static_cast<std::size_t>(fraction * static_cast<double>(text.size())));
  };
  const std::size_t begin = share(document.begin);
  return text.substr(begin, share(document.end) - begin);
}

std::size_t piece_length(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  const std::string_view window = text.substr(0, kPieceBytes);
  if (const auto line_end = window.rfind('\n'); line_end != std::string_view::npos)
    return line_end + 1;
  if (const auto space = window.rfind(' '); space != std::string_view::npos && space > 0)
    return space;
  return character_start(text, kPieceBytes);
}

}  // namespace rwkvx
