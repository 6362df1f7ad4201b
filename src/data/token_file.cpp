#include "rwkvx/data/token_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>
#include <limits>

#include "rwkvx/base/error.h"

namespace rwkvx {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are read as they lie");

constexpr std::string_view kMagic{"MMIDIDX\0\0", 9};
constexpr std::size_t kHeaderBytes = 9 + 8 + 1 + 8 + 8;
constexpr unsigned char kTypeU16 = 8, kTypeI32 = 4;

// Bytes of an id of a type, 0 for types that are no integers.
int width_of(unsigned char type) {
  constexpr int kWidths[] = {0, 1, 1, 2, 4, 8, 0, 0, 2};
  return type < std::size(kWidths) ? kWidths[type] : 0;
}

// What use() returns for a number of the type.
template <class Use>
auto with_type(unsigned char type, const Use& use) {
  switch (type) {
    case 1:
      return use(std::uint8_t{});
    case 2:
      return use(std::int8_t{});
    case 3:
      return use(std::int16_t{});
    case kTypeI32:
      return use(std::int32_t{});
    case 5:
      return use(std::int64_t{});
    default:
      return use(std::uint16_t{});
  }
}
// An item's size is an i32, so a longer document takes several items.
constexpr std::int64_t kItemTokens = 1 << 30;

// The arrays follow a header of odd length, so nothing in an index is aligned.
template <class Value>
Value value_at(std::string_view bytes, std::size_t offset) {
  Value value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <class Value>
void append(AtomicFile& file, const std::vector<Value>& values) {
  file.write({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)});
}

template <class Value>
void append_value(AtomicFile& file, Value value) {
  file.write({reinterpret_cast<const char*>(&value), sizeof value});
}

// What an index says, checked against the length of its .bin.
struct Index {
  unsigned char type = 0;
  int width = 0;
  std::int64_t tokens = 0;
  std::vector<std::int64_t> bounds;
};

Index parse_index(const TokenFilePaths& paths, std::uint64_t bin_bytes) {
  const MappedFile file(paths.index);
  const std::string_view bytes = file.text();
  const std::string where = paths.index.string();
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic))
    throw DataError(where,
                    "is not a binidx index: expected MMIDIDX and a header of 34 bytes, got " +
                        std::to_string(bytes.size()) + " bytes");
  if (const auto version = value_at<std::uint64_t>(bytes, 9); version != 1)
    throw DataError(where, "expected version 1, got " + std::to_string(version));
  Index index;
  index.type = static_cast<unsigned char>(bytes[17]);
  index.width = width_of(index.type);
  if (index.width == 0)
    throw DataError(where, "expected tokens that are integers (type 1 to 5 or 8), got type " +
                               std::to_string(index.type));
  const auto items = value_at<std::uint64_t>(bytes, 18);
  const auto marks = value_at<std::uint64_t>(bytes, 26);
  // Each item takes 12 bytes and each mark 8: both are bounded by the file before they are added
  // up.
  const std::uint64_t most = bytes.size();
  if (marks == 0 || items > most / 12 || marks > most / 8 ||
      kHeaderBytes + items * 12 + marks * 8 != most)
    throw DataError(where, "promises " + std::to_string(items) + " items and " +
                               std::to_string(marks) + " document bounds, which does not fit its " +
                               std::to_string(most) + " bytes");

  const std::size_t sizes = kHeaderBytes, offsets = sizes + items * 4,
                    documents = offsets + items * 8;
  const auto width = static_cast<std::uint64_t>(index.width);
  std::vector<std::int64_t> item_starts{0};
  item_starts.reserve(items + 1);
  for (std::uint64_t item = 0; item < items; ++item) {
    const auto size = value_at<std::int32_t>(bytes, sizes + item * 4);
    const auto offset = value_at<std::int64_t>(bytes, offsets + item * 8);
    const std::int64_t start = item_starts.back();
    if (size < 0)
      throw DataError(where,
                      "item " + std::to_string(item) + " has the size " + std::to_string(size));
    if (offset != start * index.width)
      throw DataError(where, "item " + std::to_string(item) + " starts at byte " +
                                 std::to_string(offset) + ", expected " +
                                 std::to_string(start * index.width) +
                                 ": items must follow one another without gap or overlap");
    if (static_cast<std::uint64_t>(start + size) > bin_bytes / width)
      throw DataError(where, "item " + std::to_string(item) + " ends at token " +
                                 std::to_string(start + size) + ", beyond the " +
                                 std::to_string(bin_bytes / width) + " of " +
                                 paths.tokens.string());
    item_starts.push_back(start + size);
  }
  index.tokens = item_starts.back();
  if (static_cast<std::uint64_t>(index.tokens) * width != bin_bytes)
    throw DataError(paths.tokens.string(), "has " + std::to_string(bin_bytes) + " bytes, but " +
                                               where + " describes " +
                                               std::to_string(index.tokens) + " tokens of " +
                                               std::to_string(index.width) + " bytes");
  index.bounds.reserve(marks);
  std::int64_t last = 0;
  for (std::uint64_t mark = 0; mark < marks; ++mark) {
    const auto item = value_at<std::int64_t>(bytes, documents + mark * 8);
    const bool first_or_last_wrong =
        (mark == 0 && item != 0) || (mark + 1 == marks && item != static_cast<std::int64_t>(items));
    if (first_or_last_wrong || item < last || item > static_cast<std::int64_t>(items))
      throw DataError(where, "document bound " + std::to_string(mark) + " is item " +
                                 std::to_string(item) + "; bounds must rise from 0 to " +
                                 std::to_string(items));
    index.bounds.push_back(item_starts[static_cast<std::size_t>(item)]);
    last = item;
  }
  return index;
}

}  // namespace

TokenFilePaths::TokenFilePaths(const std::filesystem::path& name) : prefix(name) {
  const auto extension = prefix.extension();
  if (extension == ".idx" || extension == ".bin" || extension == ".json")
    prefix.replace_extension();
  index = prefix.string() + ".idx";
  tokens = prefix.string() + ".bin";
  manifest = prefix.string() + ".json";
}

TokenFile::TokenFile(const std::filesystem::path& prefix) : paths_(prefix), tokens_(paths_.tokens) {
  Index index = parse_index(paths_, tokens_.bytes().size());
  type_ = index.type;
  size_ = index.tokens;
  bounds_ = std::move(index.bounds);
}

TokenFile::Bounds TokenFile::document(std::int64_t document) const {
  if (document < 0 || document >= documents())
    throw DataError(paths_.index.string(), "has " + std::to_string(documents()) +
                                               " documents, so there is no number " +
                                               std::to_string(document));
  const auto at = static_cast<std::size_t>(document);
  return {bounds_[at], bounds_[at + 1]};
}

void TokenFile::read(std::int64_t offset, std::int64_t count, std::int64_t* out) const {
  if (offset < 0 || count < 0 || offset > size_ || count > size_ - offset)
    throw DataError(paths_.tokens.string(), "has " + std::to_string(size_) +
                                                " tokens, cannot read " + std::to_string(count) +
                                                " from number " + std::to_string(offset));
  const char* from = tokens_.text().data() + offset * width();
  with_type(type_, [&](auto id) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::memcpy(&id, from + i * static_cast<std::int64_t>(sizeof id), sizeof id);
      out[i] = static_cast<std::int64_t>(id);
    }
  });
  check_mapped_files();  // zeros must not be taken for tokens
}

int TokenFile::width() const { return width_of(type_); }

void TokenFile::check_vocab(std::int64_t vocab_size) const {
  const bool narrow = with_type(type_, [&](auto id) {
    return std::numeric_limits<decltype(id)>::min() == 0 &&
           std::numeric_limits<decltype(id)>::max() < vocab_size;
  });
  if (!narrow) TokenSource::check_vocab(vocab_size);
}

std::vector<TokenId> TokenSource::read(std::int64_t offset, std::int64_t count) const {
  std::vector<std::int64_t> wide(
      static_cast<std::size_t>(std::clamp<std::int64_t>(count, 0, size())));
  read(offset, count, wide.data());
  return {wide.begin(), wide.end()};
}

void TokenSource::check_vocab(std::int64_t vocab_size) const {
  std::vector<std::int64_t> piece(1 << 16);
  for (std::int64_t at = 0; at < size();) {
    const auto count = std::min<std::int64_t>(size() - at, static_cast<std::int64_t>(piece.size()));
    read(at, count, piece.data());
    for (std::int64_t i = 0; i < count; ++i)
      if (const auto id = piece[static_cast<std::size_t>(i)]; id < 0 || id >= vocab_size)
        throw DataError(name(), "token number " + std::to_string(at + i) + " is id " +
                                    std::to_string(id) + ", but the vocabulary has " +
                                    std::to_string(vocab_size) +
                                    " ids; build the file again with this tokenizer");
    at += count;
  }
}

TokenChain::TokenChain(std::vector<Part> parts) : parts_(std::move(parts)), starts_{0} {
  for (const auto& part : parts_) starts_.push_back(starts_.back() + part.end - part.begin);
}

void TokenChain::read(std::int64_t offset, std::int64_t count, std::int64_t* out) const {
  if (offset < 0 || count < 0 || offset > size() || count > size() - offset)
    throw DataError(name(), "has " + std::to_string(size()) + " tokens, cannot read " +
                                std::to_string(count) + " from number " + std::to_string(offset));
  auto index = static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), offset) -
                                        starts_.begin() - 1);
  for (; count > 0; ++index) {
    const auto inside = offset - starts_[index];
    const auto some = std::min(count, starts_[index + 1] - offset);
    parts_[index].file->read(parts_[index].begin + inside, some, out);
    offset += some;
    out += some;
    count -= some;
  }
}

std::string TokenChain::name() const {
  const auto first = parts_.front().file->name();
  return parts_.size() == 1 ? first : first + " and " + std::to_string(parts_.size() - 1) + " more";
}

void TokenChain::check_vocab(std::int64_t vocab_size) const {
  for (const auto& part : parts_) part.file->check_vocab(vocab_size);
}

TokenFileWriter::TokenFileWriter(const std::filesystem::path& prefix, std::int64_t vocab_size)
    : paths_(prefix),
      vocab_size_(vocab_size),
      width_(vocab_size <= 65536 ? 2 : 4),
      bin_(std::make_unique<AtomicFile>(paths_.tokens)) {}

void TokenFileWriter::add(std::span<const TokenId> ids) {
  for (const TokenId id : ids)
    if (id < 0 || id >= vocab_size_)
      throw DataError(paths_.tokens.string(), "id " + std::to_string(id) +
                                                  " is outside the vocabulary of " +
                                                  std::to_string(vocab_size_));
  while (!ids.empty()) {
    const auto count = std::min(ids.size(), static_cast<std::size_t>(kItemTokens - item_tokens_));
    bytes_.clear();
    for (const TokenId id : ids.first(count)) {
      // Little-endian, so the low bytes come first whatever the width.
      bytes_.append(reinterpret_cast<const char*>(&id), static_cast<std::size_t>(width_));
    }
    bin_->write(bytes_);
    tokens_ += static_cast<std::int64_t>(count);
    item_tokens_ += static_cast<std::int64_t>(count);
    ids = ids.subspan(count);
    if (item_tokens_ == kItemTokens) close_item();
  }
}

void TokenFileWriter::close_item() {
  if (item_tokens_ == 0) return;
  sizes_.push_back(static_cast<std::int32_t>(item_tokens_));
  item_tokens_ = 0;
}

void TokenFileWriter::end_document(TokenId end) {
  if (end != kNoToken) add({&end, 1});
  close_item();
  starts_.push_back(static_cast<std::int64_t>(sizes_.size()));
}

void TokenFileWriter::commit() {
  if (item_tokens_ != 0 || starts_.back() != static_cast<std::int64_t>(sizes_.size()))
    throw std::logic_error("TokenFileWriter: the last document was not ended");
  AtomicFile index(paths_.index);
  index.write(kMagic);
  append_value<std::uint64_t>(index, 1);
  append_value<unsigned char>(index, width_ == 2 ? kTypeU16 : kTypeI32);
  append_value<std::uint64_t>(index, sizes_.size());
  append_value<std::uint64_t>(index, starts_.size());
  append(index, sizes_);
  std::vector<std::int64_t> offsets;
  offsets.reserve(sizes_.size());
  std::int64_t offset = 0;
  for (const std::int32_t size : sizes_) {
    offsets.push_back(offset);
    offset += std::int64_t{size} * width_;
  }
  append(index, offsets);
  append(index, starts_);
  bin_->commit();
  index.commit();
}

}  // namespace rwkvx
