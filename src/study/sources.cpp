#include "study/sources.h"

#include <algorithm>

#include "rwkvx/base/error.h"
#include "rwkvx/eval/pairs.h"
#include "rwkvx/synth/write.h"

namespace rwkvx {

void require_source(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path))
    throw DataError(path.string(), "does not exist; --data names the directory with the texts");
}

void for_each_line(const std::filesystem::path& path,
                   const std::function<bool(const JsonObject& line, const nlohmann::json& item,
                                            const std::string& where)>& use) {
  require_source(path);
  LineReader reader(path);
  for (std::string line; line.clear(), reader.append(line);) {
    if (line.empty()) continue;
    const auto where = path.string() + ":" + std::to_string(reader.lines());
    const auto item = parse_foreign_json(line, where);
    if (!use(JsonObject(item, where), item, where)) return;
  }
}

void for_each_pair(const std::filesystem::path& path,
                   const std::function<bool(const std::string& prompt,
                                            const std::vector<std::string>& references)>& use) {
  require_source(path);
  LineReader reader(path);
  for (std::string line; line.clear(), reader.append(line);) {
    const auto where = path.string() + ":" + std::to_string(reader.lines());
    const auto item = parse_json_or_null(line);
    if (!item.is_object() || !item.contains("prompt") || !item.contains("reference") ||
        !item["prompt"].is_string() || !item["reference"].is_string())
      throw DataError(where,
                      "expected an object with the strings \"prompt\" and \"reference\", got " +
                          json_shown(item));
    auto references = std::vector<std::string>{item["reference"]};
    if (item.contains("references"))
      references = read_texts(item["references"], where + ": references");
    if (!use(item["prompt"], references)) return;
  }
}

SynthSet write_synth_set(const DataSetConfig& config, const MeasureConfig& measure,
                         const std::filesystem::path& folder) {
  SynthOptions options;
  options.task = &synth_task(config.synth, "synth");
  options.megabytes = config.megabytes;
  options.valid_fraction = std::min(0.5, config.test_megabytes / config.megabytes);
  options.pairs = measure.prompts;
  const auto place = folder / "synth";
  write_synth(options, place, /*quiet=*/true);
  return {place / "train.txt", place / "valid.txt", place / "pairs.jsonl"};
}

}  // namespace rwkvx
