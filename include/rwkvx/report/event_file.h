// Event files as TensorBoard reads them: scalars and texts over steps.
//
// The format is that of TensorFlow: records of TFRecord framing (core/lib/io/record_writer.h), each
// a protocol buffer `Event` (core/util/event.proto, core/framework/summary.proto).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "rwkvx/base/descriptor.h"

namespace rwkvx {

// CRC-32C (Castagnoli), RFC 3720 appendix B.4.
std::uint32_t crc32c(std::string_view bytes);

// A record: length (8 bytes), its masked CRC (4), the data, their masked CRC (4), little-endian.
std::string tfrecord(std::string_view data);

// Of one event: seconds since 1970 and the step it belongs to.
struct EventTime {
  double seconds = 0;
  std::int64_t step = 0;
};
// Messages `Event`, encoded. The first event of a file names the format's version.
std::string version_event(double seconds);
// TensorBoard forgets what earlier files of the directory say of this step and later ones.
std::string start_event(const EventTime& time);
std::string scalar_event(const EventTime& time, std::string_view tag, float value);
// Shown by the plugin for texts, as Markdown. Text that is not UTF-8 gets U+FFFD.
std::string text_event(const EventTime& time, std::string_view tag, std::string_view text);

// One event file, in a directory that is made if need be. Its name begins with
// "events.out.tfevents." and sorts after those of the event files that the directory holds.
class EventFile {
 public:
  // Throws FileError where the file cannot be made.
  explicit EventFile(const std::filesystem::path& directory);
  void start(std::int64_t step);
  void scalar(std::string_view tag, double value, std::int64_t step);
  void text(std::string_view tag, std::string_view text, std::int64_t step);
  // Hands what was added to the system; a reader sees it from then on. Throws FileError.
  void flush();

 private:
  std::filesystem::path path_;
  Descriptor file_;
  std::string buffer_;
};

// Removes the event files of a directory, and the directory where it is empty then.
void remove_event_files(const std::filesystem::path& directory);

}  // namespace rwkvx
