#include "rwkvx/report/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstring>
#include <system_error>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";

constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0x82f63b78u : 0);
    table[i] = value;
  }
  return table;
}();

template <class Integer>
void append_little_endian(Integer value, std::string& out) {
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// So that a CRC of bytes that hold CRCs is no weaker: rotated right by 15 bits, plus a constant.
std::uint32_t masked_crc(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xa282ead8u;
}

// The fields of a protocol buffer, by their numbers.
class Message {
 public:
  Message& integer(int field, std::uint64_t value) {
    key(field, 0);
    varint(value);
    return *this;
  }
  Message& number(int field, double value) {
    key(field, 1);
    append_little_endian(std::bit_cast<std::uint64_t>(value), bytes_);
    return *this;
  }
  Message& number(int field, float value) {
    key(field, 5);
    append_little_endian(std::bit_cast<std::uint32_t>(value), bytes_);
    return *this;
  }
  Message& bytes(int field, std::string_view value) {
    key(field, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return bytes(field, value.bytes_); }
  std::string take() { return std::move(bytes_); }

 private:
  void key(int field, int type) { varint(static_cast<std::uint64_t>(field << 3 | type)); }
  void varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  std::string bytes_;
};

// Event: wall_time = 1, step = 2.
Message event_at(const EventTime& time) {
  Message event;
  event.number(1, time.seconds);
  if (time.step != 0) event.integer(2, static_cast<std::uint64_t>(time.step));
  return event;
}

// Event.summary = 5, whose values are field 1, with the tag as their field 1.
std::string summary_event(const EventTime& time, const Message& value) {
  return event_at(time).message(5, Message().message(1, value)).take();
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// The whole seconds that an event file's name begins with, 0 for another file.
std::int64_t seconds_of(const fs::path& path) {
  const auto name = path.filename().string();
  std::int64_t seconds = 0;
  if (name.starts_with(kPrefix))
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), seconds);
  return seconds;
}

std::vector<fs::path> event_files(const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::directory_iterator it(directory, error);
  for (const fs::directory_iterator end; !error && it != end; it.increment(error))
    if (it->path().filename().string().starts_with(kPrefix)) files.push_back(it->path());
  return files;
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const char byte : bytes)
    crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<unsigned char>(byte)) & 0xff];
  return ~crc;
}

std::string tfrecord(std::string_view data) {
  std::string record;
  append_little_endian(static_cast<std::uint64_t>(data.size()), record);
  append_little_endian(masked_crc(record), record);
  record += data;
  append_little_endian(masked_crc(data), record);
  return record;
}

std::string version_event(double seconds) {
  return event_at({seconds, 0}).bytes(/*file_version*/ 3, "brain.Event:2").take();
}

std::string start_event(const EventTime& time) {
  constexpr int kStart = 1;  // SessionLog.status
  return event_at(time).message(/*session_log*/ 7, Message().integer(1, kStart)).take();
}

std::string scalar_event(const EventTime& time, std::string_view tag, float value) {
  Message summary;
  summary.bytes(1, tag).number(/*simple_value*/ 2, value);
  return summary_event(time, summary);
}

std::string text_event(const EventTime& time, std::string_view tag, std::string_view text) {
  constexpr int kString = 7, kTensorClass = 2;  // DataType DT_STRING; DataClass
  // Summary.Value: metadata = 9 {plugin_data = 1 {plugin_name = 1}, data_class = 4}, tensor = 8
  // {dtype = 1, tensor_shape = 2 {dim = 2 {size = 1}}, string_val = 8}.
  Message plugin, metadata, tensor, value;
  plugin.bytes(1, "text");
  metadata.message(1, plugin).integer(4, kTensorClass);
  tensor.integer(1, kString)
      .message(2, Message().message(2, Message().integer(1, 1)))
      .bytes(8, replace_invalid_utf8(text));
  value.bytes(1, tag).message(8, tensor).message(9, metadata);
  return summary_event(time, value);
}

EventFile::EventFile(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) throw FileError(directory.string(), "cannot make the directory: " + error.message());
  auto seconds = static_cast<std::int64_t>(now());
  for (const auto& file : event_files(directory)) {
    const auto other = seconds_of(file);
    // The clock may have been set back; names with other digits are none of ours.
    if (other < 9'999'999'999) seconds = std::max(seconds, other + 1);
  }
  char host[HOST_NAME_MAX + 1] = "";
  ::gethostname(host, sizeof host - 1);
  char number[32];
  std::snprintf(number, sizeof number, "%010lld", static_cast<long long>(seconds));
  path_ = directory /
          (std::string(kPrefix) + number + "." + host + "." + std::to_string(::getpid()) + ".0");
  file_ =
      Descriptor(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666));
  if (!file_)
    throw FileError(path_.string(), std::string("cannot be made: ") + std::strerror(errno));
  buffer_ = tfrecord(version_event(now()));
}

void EventFile::start(std::int64_t step) { buffer_ += tfrecord(start_event({now(), step})); }

void EventFile::scalar(std::string_view tag, double value, std::int64_t step) {
  buffer_ += tfrecord(scalar_event({now(), step}, tag, static_cast<float>(value)));
}

void EventFile::text(std::string_view tag, std::string_view text, std::int64_t step) {
  buffer_ += tfrecord(text_event({now(), step}, tag, text));
}

void EventFile::flush() {
  for (std::string_view rest = buffer_; !rest.empty();) {
    const auto written = ::write(file_.get(), rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      throw FileError(path_.string(), std::string("cannot be written: ") + std::strerror(errno));
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
  buffer_.clear();
}

void remove_event_files(const fs::path& directory) {
  std::error_code ignored;
  for (const auto& file : event_files(directory)) fs::remove(file, ignored);
  fs::remove(directory, ignored);  // of a directory that holds something: does nothing
}

}  // namespace rwkvx
