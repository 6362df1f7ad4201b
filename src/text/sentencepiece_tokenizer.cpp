// Sentencepiece models, ours and others'. The only unit that knows the library.
//
// The models trained here are lossless because the library is only given text that it keeps (valid
// UTF-8 without NUL and without U+2581, which it writes for a space) and everything else goes in as
// byte pieces; what comes back is compared with what went in.
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <exception>
#include <future>
#include <memory>
#include <thread>
#include <unordered_map>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/text/sentence_pieces.h"
#include "tokenizers.h"

namespace rwkvx {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr const char* kUnknownText = "\xEF\xBF\xBD";     // U+FFFD

// Bytes at the start of `text` that the library can take as they are.
std::size_t plain_run(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size() && text[length] != '\0') {
    const std::size_t character = utf8_character(text.substr(length));
    if (character == 0 || text.substr(length, character) == kSpaceMark) break;
    length += character;
  }
  return length;
}

// "<0x41>" is the byte 0x41.
int byte_of_piece(const std::string& piece) {
  int value = -1;
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') return -1;
  const auto [end, error] = std::from_chars(piece.data() + 3, piece.data() + 5, value, 16);
  return error == std::errc() && end == piece.data() + 5 ? value : -1;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string model, const std::string& where) : model_(std::move(model)) {
    if (model_.empty()) throw DataError(where, "expected a sentencepiece model, got an empty file");
    const auto status = processor_.LoadFromSerializedProto(model_);
    if (!status.ok() || processor_.GetPieceSize() <= 0)
      throw DataError(where,
                      "is not a sentencepiece model; expected one, or an RWKV-World "
                      "vocabulary named .txt");
    document_end_ = processor_.eos_id();
    if (document_end_ < 0 || document_end_ >= processor_.GetPieceSize())
      throw DataError(where, "has no end-of-sentence id, which is needed to end documents");
    read_pieces();
    read_start();
    has_bytes_ = std::all_of(bytes_.begin(), bytes_.end(), [](int id) { return id >= 0; });
    lossless_ = has_bytes_ && keeps_text();
    hash_ = tokenizer_hash("sentencepiece", model_);
  }

  std::vector<TokenId> encode(std::string_view text) const override {
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 3);
    while (!text.empty()) {
      const std::size_t length = lossless_ ? plain_run(text) : text.size();
      if (length > 0) encode_run(text.substr(0, length), ids);
      text.remove_prefix(length);
      if (text.empty()) break;
      const std::size_t odd = std::max<std::size_t>(utf8_character(text), 1);
      encode_bytes(text.substr(0, odd), ids);
      text.remove_prefix(odd);
    }
    return ids;
  }

  std::string piece(TokenId id) const override {
    if (id < 0 || static_cast<std::size_t>(id) >= pieces_.size())
      throw DataError("sentencepiece tokenizer", "id " + std::to_string(id) + " is not in 0 to " +
                                                     std::to_string(pieces_.size() - 1));
    return pieces_[static_cast<std::size_t>(id)];
  }
  std::string piece_in_text(TokenId id, bool& at_start) const override {
    auto text = piece(id);
    if (!at_start) return text;
    const bool mark = starts_with_mark(id);
    if (mark && start_ != Start::kKept) text.erase(0, 1);
    if (!text.empty() || (mark && start_ != Start::kDropsAll)) at_start = false;
    return text;
  }
  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(pieces_.size()); }
  bool lossless() const override { return lossless_; }
  TokenId document_end() const override { return document_end_; }
  std::string kind() const override { return "sentencepiece"; }
  std::string hash() const override { return hash_; }
  void save(const std::filesystem::path& directory) const override {
    save_tokenizer(*this, directory, "tokenizer.model", model_);
  }

 private:
  static std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

  void read_pieces() {
    const int count = processor_.GetPieceSize();
    pieces_.reserve(static_cast<std::size_t>(count));
    bytes_.fill(-1);
    for (int id = 0; id < count; ++id) {
      std::string text = processor_.IdToPiece(id);
      if (processor_.IsControl(id)) {
        text.clear();
      } else if (processor_.IsUnknown(id)) {
        text = kUnknownText;
      } else if (const int byte = processor_.IsByte(id) ? byte_of_piece(text) : -1; byte >= 0) {
        bytes_[static_cast<std::size_t>(byte)] = id;
        text.assign(1, static_cast<char>(byte));
      } else {
        for (auto at = text.find(kSpaceMark); at != std::string::npos;
             at = text.find(kSpaceMark, at))
          text.replace(at, kSpaceMark.size(), " ");
      }
      pieces_.push_back(std::move(text));
    }
    pieces_[static_cast<std::size_t>(document_end_)].clear();
  }

  // A space that the model writes as its mark, which a byte piece is not.
  bool starts_with_mark(TokenId id) const {
    return !processor_.IsByte(id) && !processor_.IsControl(id) && !processor_.IsUnknown(id) &&
           processor_.IdToPiece(id).starts_with(kSpaceMark);
  }

  // What the library does with the mark at the start of a text, asked by examples: its settings are
  // not in its interface.
  void read_start() {
    const auto decoded = [&](const std::vector<int>& ids) {
      std::string text;
      return processor_.Decode(ids, &text).ok() ? text : std::string(" ");
    };
    for (int id = 0; id < processor_.GetPieceSize(); ++id) {
      if (!starts_with_mark(id)) continue;
      const bool alone = processor_.IdToPiece(id) == kSpaceMark;
      if (start_ == Start::kKept && decoded({id}).starts_with(' ')) return;
      start_ = Start::kDropsOne;
      if (!alone) continue;  // only a mark of its own leaves the text at its start
      if (decoded({id, id}).empty()) start_ = Start::kDropsAll;
      return;
    }
  }

  // Whether the model gives back texts that usual normalizations change: a first letter without a
  // space before it, runs of spaces, capitals, compatibility forms, line ends.
  bool keeps_text() const {
    for (const char* text : {"a", " a", "a  b ", "\n\n\ta\r\n", "A\xEF\xAC\x81\xC2\xBD\xE3\x80\x80",
                             "e\xCC\x81 \xE2\x84\xAB \xC2\xA0\xE2\x80\x8B"}) {
      std::vector<int> ids;
      if (!processor_.Encode(text, &ids).ok() || !gives(ids, text)) return false;
    }
    return true;
  }

  bool gives(const std::vector<int>& ids, std::string_view text) const {
    for (const int id : ids) {
      const std::string& bytes = pieces_[static_cast<std::size_t>(id)];
      if (bytes.empty() || !text.starts_with(bytes)) return false;
      text.remove_prefix(bytes.size());
    }
    return text.empty();
  }

  void encode_run(std::string_view text, std::vector<TokenId>& out) const {
    std::vector<int> ids;
    const auto status = processor_.Encode({text.data(), text.size()}, &ids);
    if (!status.ok())
      throw DataError("sentencepiece tokenizer", "cannot encode: " + first_line(status.message()));
    if (!lossless_ || gives(ids, text)) {
      out.insert(out.end(), ids.begin(), ids.end());
      return;
    }
    // Some character here is one the model rewrites: narrow it down, the rest keeps its pieces.
    const std::size_t first = utf8_character(text);
    if (first == text.size()) return encode_bytes(text, out);
    std::size_t middle = text.size() / 2;
    while (continues_utf8(text[middle])) --middle;
    middle = std::max(middle, first);
    encode_run(text.substr(0, middle), out);
    encode_run(text.substr(middle), out);
  }

  void encode_bytes(std::string_view text, std::vector<TokenId>& out) const {
    for (const char byte : text) out.push_back(bytes_[static_cast<unsigned char>(byte)]);
  }

  std::string model_, hash_;
  sentencepiece::SentencePieceProcessor processor_;
  std::vector<std::string> pieces_;
  std::array<TokenId, 256> bytes_{};
  TokenId document_end_ = -1;
  enum class Start { kKept, kDropsOne, kDropsAll } start_ = Start::kKept;
  bool has_bytes_ = false, lossless_ = false;
};

// The lines of documents, without line ends and what the trainer cannot take. Long lines
// are cut before a space, as the trainer would leave them out.
class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(const std::vector<std::string>& documents) : documents_(documents) { Next(); }
  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }
  void Next() override {
    line_.clear();
    while (line_.empty()) {
      if (rest_.empty()) {
        if (next_ == documents_.size()) {
          done_ = true;
          return;
        }
        rest_ = documents_[next_++];
        continue;
      }
      std::string_view line = rest_.substr(0, std::min(rest_.find('\n'), kLongest));
      line = line.substr(0, plain_run(line));
      // A cut may fall into a character only where the line is too long: plain_run() stops before
      // it.
      if (line.size() + 4 > kLongest)
        if (const auto space = line.rfind(' '); space != std::string_view::npos && space > 0)
          line = line.substr(0, space);
      line_ = line;
      rest_.remove_prefix(std::max<std::size_t>(line.size(), 1));
    }
  }

 private:
  static constexpr std::size_t kLongest = 4096;
  const std::vector<std::string>& documents_;
  std::size_t next_ = 0;
  std::string_view rest_;
  std::string line_;
  bool done_ = false;
};

std::string decimal(double value) {
  std::array<char, 32> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  return {digits.data(), end};
}

// The number in `message` after `marker`, "" where there is none.
std::string number_after(const std::string& message, const std::string& marker) {
  const auto at = message.find(marker);
  if (at == std::string::npos) return "";
  const auto begin = at + marker.size();
  return message.substr(begin, message.find_first_not_of("0123456789", begin) - begin);
}

[[noreturn]] void refuse_training(const std::string& message, std::int64_t vocab_size) {
  const std::string wanted = "expected a text for " + std::to_string(vocab_size) + " pieces, ";
  const std::string where = "tokenizer.vocab_size";
  if (const auto most = number_after(message, "value <= "); !most.empty()) {
    if (most.size() < 9 && std::stoll(most) < kLeastSentencePieces)
      throw DataError("tokenizer", "the text has enough for " + most +
                                       " pieces, expected at least " +
                                       std::to_string(kLeastSentencePieces) +
                                       "; give more text, or take the byte tokenizer");
    throw DataError(where, wanted + "but the text has enough for at most " + most +
                               "; set vocab_size to that or less, or give more text");
  }
  if (const auto least = number_after(message, " vs "); !least.empty())
    throw DataError(where, wanted + "but the characters of the text alone need " + least +
                               "; raise vocab_size or lower character_coverage");
  throw DataError("tokenizer", "sentencepiece cannot train on this text: " +
                                   message.substr(0, message.find('\n')));
}

}  // namespace

std::unique_ptr<Tokenizer> parse_sentencepiece(std::string model, const std::string& where) {
  return std::make_unique<SentencePieceTokenizer>(std::move(model), where);
}

std::function<std::string(std::string_view)> sentence_piece_cutter(
    const std::filesystem::path& model) {
  const auto processor = std::make_shared<sentencepiece::SentencePieceProcessor>();
  const auto bytes = read_file(model);
  if (bytes.empty() || !processor->LoadFromSerializedProto(bytes).ok() ||
      processor->GetPieceSize() <= 0)
    throw DataError(model.string(), "is not a sentencepiece model");
  return [processor](std::string_view text) {
    std::vector<std::string> pieces;
    const auto valid = replace_invalid_utf8(text);
    if (!processor->Encode(valid, &pieces).ok()) pieces = {valid};
    std::string joined;
    for (const auto& piece : pieces) joined += (joined.empty() ? "" : " ") + piece;
    return joined;
  };
}

std::unique_ptr<Tokenizer> train_sentencepiece(const std::vector<std::string>& documents,
                                               const SentencePieceTraining& training) {
  if (Lines(documents).done()) throw DataError("tokenizer", "expected text to train on, got none");
  const std::unordered_map<std::string, std::string> settings{
      {"model_type", training.model_type},
      {"vocab_size", std::to_string(training.vocab_size)},
      {"character_coverage", decimal(training.character_coverage)},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"byte_fallback", "true"},
      {"user_defined_symbols", "\n"},  // a line end is always a token of its own
      {"eos_id", "0"},                 // as in RWKV's own vocabularies, 0 ends a document
      {"unk_id", "1"},
      {"bos_id", "-1"},
      {"pad_id", "-1"},
      // Partial sums are added per thread, so the number of threads is part of the result.
      {"num_threads", "8"},
      {"minloglevel", "4"},
  };
  // The library cannot be stopped, so it works beside this thread, on a copy: a signal ends the
  // wait for it at once.
  struct Job {
    std::vector<std::string> documents;
    std::string model;
    sentencepiece::util::Status status;
    std::promise<void> done;
  };
  const auto job = std::make_shared<Job>();
  job->documents = documents;
  auto done = job->done.get_future();
  std::thread([job, settings] {
    try {
      Lines lines(job->documents);
      job->status = sentencepiece::SentencePieceTrainer::Train(settings, &lines, &job->model);
      job->done.set_value();
    } catch (...) {
      job->done.set_exception(std::current_exception());
    }
  }).detach();
  while (done.wait_for(std::chrono::milliseconds(50)) != std::future_status::ready)
    throw_if_interrupted("tokenizer");
  done.get();
  if (!job->status.ok()) refuse_training(job->status.message(), training.vocab_size);
  return parse_sentencepiece(std::move(job->model), "trained tokenizer");
}

}  // namespace rwkvx
