// The ready settings in configs/ and the table of settings in docs/config.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/config/train_config.h"

namespace rwkvx {
namespace {

const std::filesystem::path kRoot = RWKVX_SOURCE_DIR;

TrainConfig load(const std::filesystem::path& path) {
  return config_from_json<TrainConfig>(read_json_file(path.string()), path.string() + ": ");
}

TEST(Configs, EachFileLoads) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kRoot / "configs")) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    EXPECT_NO_THROW({
      const auto config = load(entry.path());
      EXPECT_FALSE(config.data.train.empty()) << entry.path();
      EXPECT_GT(config.train.max_steps, config.train.warmup_steps) << entry.path();
    }) << entry.path();
  }
  EXPECT_GE(files, 5);
}

TEST(Configs, TheBaselineIsOneLineFromTheEnhancedModel) {
  auto baseline = load(kRoot / "configs/tinyshakespeare-baseline.json");
  const auto enhanced = load(kRoot / "configs/tinyshakespeare-enhanced.json");
  EXPECT_EQ(baseline.model.shift.kind, ShiftKind::kNone);
  EXPECT_EQ(enhanced.model.shift.kind, ShiftKind::kGatedPositional);
  baseline.model.shift.kind = ShiftKind::kGatedPositional;
  EXPECT_EQ(config_to_json(baseline).dump(2), config_to_json(enhanced).dump(2));
}

std::string cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2)
    text.insert(at, "\\");
  return text;
}

std::string settings_as_markdown() {
  std::ostringstream page;
  page
      << "# Settings\n\n"
         "What `rwkvx train --config FILE` reads. A file is a JSON object with the sections below\n"
         "and may hold `//` comments; whatever it leaves out has its default, and a key that is\n"
         "not listed is refused. `--set SECTION.KEY=VALUE` overrides one setting, for example\n"
         "`--set train.max_steps=100`. Ready files are in `configs/`.\n\n"
         "This page is written from the tables in `include/rwkvx/config/`, and a test compares\n"
         "the two; `RWKVX_UPDATE_DOCS=1 ctest --preset release -R Configs` writes it anew.\n";
  std::string section;
  for (const auto& row : describe_fields<TrainConfig>()) {
    const auto dot = row.path.rfind('.');
    if (row.path.substr(0, dot) != section) {
      section = row.path.substr(0, dot);
      page << "\n## " << section << "\n\n"
           << "| key | type | default | allowed | what it is |\n"
           << "|---|---|---|---|---|\n";
    }
    page << "| `" << row.path.substr(dot + 1) << "` | " << row.type << " | `" << row.initial
         << "` | " << cell(row.allowed) << " | " << cell(row.help) << " |\n";
  }
  return page.str();
}

TEST(Configs, TheDocumentedTableOfSettingsIsUpToDate) {
  const auto path = kRoot / "docs/config.md";
  const auto wanted = settings_as_markdown();
  if (const char* update = std::getenv("RWKVX_UPDATE_DOCS"); update && std::string(update) == "1")
    write_file(path, wanted);
  EXPECT_EQ(read_file(path), wanted)
      << "the settings have changed: RWKVX_UPDATE_DOCS=1 ctest --preset release -R Configs writes "
         "docs/config.md anew";
}

}  // namespace
}  // namespace rwkvx
