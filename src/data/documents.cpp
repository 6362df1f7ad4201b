#include "documents.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "rwkvx/base/error.h"
#include "rwkvx/text/utf8.h"

namespace rwkvx {
namespace {

constexpr std::size_t kPieceBytes = 256 << 10;
// A document that was searched for its end and is longer than this is dropped from memory before it
// is read again.
constexpr std::size_t kLongDocument = 64 << 20;

// The first place at or before `place` where a character may start.
std::size_t character_start(std::string_view text, std::size_t place) {
  const std::size_t wanted = place;
  while (place > 0 && wanted - place < 3 && place < text.size() &&
         (static_cast<unsigned char>(text[place]) & 0xC0) == 0x80)
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

// JSON must be UTF-8, but texts with stray bytes are kept: each such byte becomes a character of
// the last private-use plane, U+10F800 + byte, for the parser, and the byte again afterwards.
std::string shelter_stray_bytes(std::string_view line) {
  std::string out;
  while (!line.empty()) {
    const std::size_t character = utf8_character(line);
    if (character > 0) {
      out += line.substr(0, character);
    } else {
      const auto byte = static_cast<unsigned char>(line.front());
      out += "\xF4\x8F";
      out += static_cast<char>(0xA0 | (byte >> 6));
      out += static_cast<char>(0x80 | (byte & 0x3F));
    }
    line.remove_prefix(std::max<std::size_t>(character, 1));
  }
  return out;
}

void restore_stray_bytes(std::string& text) {
  std::size_t out = 0;
  for (std::size_t at = 0; at < text.size(); ++at, ++out) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    if (at + 3 < text.size() && byte(0) == 0xF4 && byte(1) == 0x8F && (byte(2) & 0xFE) == 0xA2) {
      text[out] = static_cast<char>((byte(2) & 3) << 6 | (byte(3) & 0x3F));
      at += 3;
    } else {
      text[out] = text[at];
    }
  }
  text.resize(out);
}

}  // namespace

bool is_jsonl(const std::string& path) {
  return path.ends_with(".jsonl") || path.ends_with(".ndjson");
}

DocumentReader::DocumentReader(const std::vector<std::string>& sources, const DataConfig& config)
    : sources_(sources), config_(config) {
  if (config.separator.find_first_of("\r\n") != std::string::npos)
    throw ConfigError("data.separator", "must be one line without line ends");
}

bool DocumentReader::next(Document& document) {
  for (;;) {
    if (file_ == nullptr) {
      if (source_ == sources_.size()) return false;
      file_ = std::make_shared<const MappedFile>(sources_[source_]);
      place_ = 0;
      line_ = 0;
    }
    document = {};
    document.source = source_;
    document.file = file_;
    if (is_jsonl(sources_[source_]) ? next_line(document) : next_text(document)) {
      document.end = document.bytes.size();
      return true;
    }
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
      total_bytes_ += static_cast<std::int64_t>(MappedFile(source).bytes().size());
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

std::string_view document_text(const Document& document, const std::vector<std::string>& sources,
                               const std::string& text_field, std::string& storage) {
  if (document.line == 0)
    return document.bytes.substr(document.begin, document.end - document.begin);
  const std::string where = sources[document.source] + ":" + std::to_string(document.line);
  const bool stray = count_invalid_utf8(document.bytes) > 0;
  nlohmann::json json;
  try {
    json = stray ? nlohmann::json::parse(shelter_stray_bytes(document.bytes))
                 : nlohmann::json::parse(document.bytes);
  } catch (const nlohmann::json::parse_error& error) {
    throw DataError(where, "is not valid JSON (byte " + std::to_string(error.byte) +
                               " of the line); a .jsonl file holds one JSON object per line");
  } catch (const nlohmann::json::exception&) {
    throw DataError(where, "holds a number that is out of range");
  }
  if (!json.is_object())
    throw DataError(where, std::string("wanted a JSON object, found ") + json.type_name());
  const auto field = json.find(text_field);
  if (field == json.end()) {
    std::string found;
    for (const auto& item : json.items()) found += (found.empty() ? "" : ", ") + item.key();
    throw DataError(where, "has no field \"" + text_field + "\"" +
                               (found.empty() ? "" : ", only " + found.substr(0, 100)) +
                               "; name the one with the text by data.text_field");
  }
  if (!field->is_string())
    throw DataError(where, "wanted a text in \"" + text_field + "\", found " + field->type_name());
  storage = std::move(field->get_ref<std::string&>());
  if (stray) restore_stray_bytes(storage);
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
