#include "rwkvx/eval/pairs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/base/nearest.h"

namespace rwkvx {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 18;
// A batch ends with the line that reaches one of these.
constexpr std::size_t kBatchItems = 256, kBatchBytes = std::size_t{1} << 20;

std::string lines_text(std::uint64_t count) {
  return std::to_string(count) + (count == 1 ? " line" : " lines");
}

class TextSource : public PairSource {
 public:
  TextSource(const std::filesystem::path& predictions, const std::filesystem::path& references)
      : predictions_(predictions), references_(references) {}

  bool next(PairBatch& batch) override {
    batch.clear();
    while (batch.items.size() < kBatchItems && batch.bytes.size() < kBatchBytes) {
      PairBatch::Item item{predictions_.lines() + 1, batch.bytes.size(), 0, 0};
      const bool prediction = predictions_.append(batch.bytes);
      item.middle = batch.bytes.size();
      const bool reference = references_.append(batch.bytes);
      item.end = batch.bytes.size();
      if (prediction != reference) refuse_rest();
      if (!prediction) break;
      batch.items.push_back(item);
    }
    if (batch.items.empty() && predictions_.lines() == 0)
      throw DataError(predictions_.path().string(),
                      "expected one prediction per line, got no lines");
    return !batch.items.empty();
  }

  void parse(const PairBatch& batch, const PairBatch::Item& item, Scratch&,
             TextPair& pair) const override {
    const std::string_view bytes = batch.bytes;
    pair.line = item.line;
    pair.id = {};
    pair.prompt = {};
    pair.prediction = bytes.substr(item.begin, item.middle - item.begin);
    pair.references.assign(1, bytes.substr(item.middle, item.end - item.middle));
  }

  std::uint64_t bytes_read() const override {
    return predictions_.bytes_read() + references_.bytes_read();
  }
  std::uint64_t size() const override {
    const auto first = predictions_.size(), second = references_.size();
    return first == 0 || second == 0 ? 0 : first + second;
  }
  std::string name() const override { return predictions_.path().string(); }

 private:
  [[noreturn]] void refuse_rest() {
    while (predictions_.skip()) {
    }
    while (references_.skip()) {
    }
    throw DataError(predictions_.path().string(), "has " + lines_text(predictions_.lines()) +
                                                      " but " + references_.path().string() +
                                                      " has " + lines_text(references_.lines()) +
                                                      "; expected one item per line in both");
  }
  LineReader predictions_, references_;
};

class JsonSource : public PairSource {
 public:
  JsonSource(const std::filesystem::path& path, PairFields fields)
      : lines_(path), fields_(std::move(fields)) {}

  bool next(PairBatch& batch) override {
    batch.clear();
    while (batch.items.size() < kBatchItems && batch.bytes.size() < kBatchBytes) {
      const auto begin = batch.bytes.size();
      if (!lines_.append(batch.bytes)) break;
      if (batch.bytes.find_first_not_of(" \t\r", begin) == std::string::npos) {
        batch.bytes.resize(begin);
        continue;
      }
      batch.items.push_back({lines_.lines(), begin, batch.bytes.size(), batch.bytes.size()});
    }
    any_ = any_ || !batch.items.empty();
    if (!any_) throw DataError(name(), "expected one JSON object per line, got an empty file");
    return !batch.items.empty();
  }

  void parse(const PairBatch& batch, const PairBatch::Item& item, Scratch& scratch,
             TextPair& pair) const override {
    const auto line = std::string_view(batch.bytes).substr(item.begin, item.end - item.begin);
    const std::string where = name() + ":" + std::to_string(item.line);
    try {
      scratch.json.read(line);
    } catch (const JsonLineError& error) {
      throw DataError(where, std::string("not a JSON object: ") + error.what());
    }
    // Decoded texts are never longer than they were written, so all fit without moving.
    scratch.room.clear();
    scratch.room.reserve(line.size());
    pair.line = item.line;
    pair.prediction = text(find(scratch, where, fields_.prediction), scratch, where,
                           fields_.prediction, "a string");
    pair.prompt = {};
    if (!fields_.prompt.empty()) {
      const auto prompt = scratch.json.find(fields_.prompt);
      if (!prompt.empty()) pair.prompt = text(prompt, scratch, where, fields_.prompt, "a string");
    }
    pair.references.clear();
    const auto reference = find(scratch, where, fields_.reference);
    if (json_kind(reference) == JsonKind::kArray) {
      json_items(reference, scratch.items);
      for (std::size_t i = 0; i < scratch.items.size(); ++i)
        pair.references.push_back(text(scratch.items[i], scratch, where,
                                       fields_.reference + "[" + std::to_string(i) + "]",
                                       "a string"));
      if (pair.references.empty())
        throw DataError(where, "field \"" + fields_.reference +
                                   "\": expected at least one reference, got an empty array");
    } else {
      pair.references.push_back(
          text(reference, scratch, where, fields_.reference, "a string or an array of strings"));
    }
    pair.id = scratch.json.find("id");
    if (!pair.id.empty() && json_kind(pair.id) == JsonKind::kNull) pair.id = {};
    if (!pair.id.empty() && json_kind(pair.id) != JsonKind::kString &&
        json_kind(pair.id) != JsonKind::kNumber)
      throw DataError(
          where, "field \"id\": expected a string or a number, got " + json_kind_name(pair.id));
  }

  std::uint64_t bytes_read() const override { return lines_.bytes_read(); }
  std::uint64_t size() const override { return lines_.size(); }
  std::string name() const override { return lines_.path().string(); }

 private:
  std::string_view find(const Scratch& scratch, const std::string& where,
                        const std::string& field) const {
    const auto value = scratch.json.find(field);
    if (value.empty())
      throw DataError(where, "no field \"" + field + "\"" +
                                 did_you_mean(field, scratch.json.names()) +
                                 "; set --prediction-field or --reference-field");
    return value;
  }
  static std::string_view text(std::string_view value, Scratch& scratch, const std::string& where,
                               const std::string& field, const std::string& expected) {
    if (json_kind(value) != JsonKind::kString)
      throw DataError(where, "field \"" + field + "\": expected " + expected + ", got " +
                                 json_kind_name(value));
    return json_text(value, scratch.room);
  }
  LineReader lines_;
  PairFields fields_;
  bool any_ = false;
};

}  // namespace

LineReader::LineReader(std::filesystem::path path) : path_(std::move(path)) {
  file_ = Descriptor(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file_) throw FileError(path_.string(), std::string("cannot open: ") + std::strerror(errno));
  struct stat status {};
  if (::fstat(file_.get(), &status) == 0) {
    if (S_ISDIR(status.st_mode))
      throw FileError(path_.string(), "expected a file, got a directory");
    if (S_ISREG(status.st_mode)) {
      text_ = open_lines(path_.string());
      file_ = Descriptor(::open(text_->path().c_str(), O_RDONLY | O_CLOEXEC));
      if (!file_)
        throw FileError(path_.string(), std::string("cannot open: ") + std::strerror(errno));
      size_ = std::filesystem::file_size(text_->path());
    }
  }
  buffer_.resize(kReadBytes);
}

bool LineReader::fill() {
  ssize_t got;
  do {
    got = ::read(file_.get(), buffer_.data(), buffer_.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw FileError(path_.string(), std::string("cannot read: ") + std::strerror(errno));
  begin_ = 0;
  end_ = static_cast<std::size_t>(got);
  if (bytes_ == 0 && text_ == nullptr)
    if (const auto kind = file_kind({buffer_.data(), end_}); !kind.empty())
      throw DataError(path_.string(), "expected lines of text, got " + kind +
                                          "; decompress it before piping it in");
  bytes_ += end_;
  return got > 0;
}

template <class Use>
bool LineReader::next(const Use& use) {
  if (begin_ == end_ && !fill()) return false;
  ++lines_;
  do {
    const char* start = buffer_.data() + begin_;
    const auto* newline = static_cast<const char*>(std::memchr(start, '\n', end_ - begin_));
    const auto count =
        newline == nullptr ? end_ - begin_ : static_cast<std::size_t>(newline - start);
    use(std::string_view(start, count));
    begin_ += count + (newline != nullptr);
    if (newline != nullptr) break;
  } while (fill());
  return true;
}

bool LineReader::append(std::string& line) {
  const auto begin = line.size();
  if (!next([&](std::string_view piece) { line += piece; })) return false;
  if (line.size() > begin && line.back() == '\r') line.pop_back();
  if (lines_ == 1 && line.compare(begin, 3, "\xef\xbb\xbf") == 0) line.erase(begin, 3);
  return true;
}

bool LineReader::skip() {
  return next([](std::string_view) {});
}

std::unique_ptr<PairSource> pairs_from_texts(const std::filesystem::path& predictions,
                                             const std::filesystem::path& references) {
  return std::make_unique<TextSource>(predictions, references);
}

std::unique_ptr<PairSource> pairs_from_json(const std::filesystem::path& path,
                                            const PairFields& fields) {
  return std::make_unique<JsonSource>(path, fields);
}

}  // namespace rwkvx
