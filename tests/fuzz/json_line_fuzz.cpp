// JSON lines: whatever the bytes, a JsonLineError or members that can be decoded.
#include <cstdint>
#include <string>
#include <vector>

#include "rwkvx/base/json_line.h"

using namespace rwkvx;

std::vector<std::string> fuzz_seeds() {
  return {R"({"id": 1, "prediction": "a \u00e9 \ud83d\ude00 b", "reference": ["x", "y\n"]})",
          R"({"a": {"b": [1, -2.5e3, true, false, null]}, "c": ""})", "{}", "[]", ""};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    JsonLine line;
    line.read(text);
    std::string room;
    std::vector<std::string_view> items;
    for (const auto& name : line.names()) {
      const auto value = line.find(name);
      if (value.empty()) continue;
      json_kind_name(value);
      room.clear();
      room.reserve(value.size());
      if (json_kind(value) == JsonKind::kString) json_text(value, room);
      if (json_kind(value) == JsonKind::kArray) json_items(value, items);
    }
  } catch (const JsonLineError&) {
  }
  return 0;
}
