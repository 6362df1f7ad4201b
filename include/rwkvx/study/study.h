// What a study is: a row of one table, from which the study file's checks, the grid, the runner,
// the report, the help and the docs follow. docs/extending.md says how to add one.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rwkvx {

class Page;
class StudyResults;
struct Claim;
struct MeasureInput;
struct StudyConfig;

struct Study {
  std::string_view name;      // its key in the section "studies" of a study file
  std::string_view question;  // what it asks
  std::string_view measures;  // what it measures for that

  bool lengths = false;           // the study file must give two or more lengths
  bool first_seed = false;        // runs with the first seed alone
  bool repeats = false;           // trains its last variant a second time, to compare
  bool without_enhanced = false;  // need not have the variant "enhanced"
  bool alone = false;             // measures time, so its cells run with nothing beside them
  bool answers = false;           // of data sets whose answers alone are learned; else of text

  // One cell's measurement on its trained models; null for a study of trainings alone.
  nlohmann::ordered_json (*measure)(const MeasureInput&) = nullptr;
  // Adds the study's section and what it says about the claims; nothing where no cell is done.
  void (*report)(const StudyResults&, const StudyConfig&, Page&, std::vector<Claim>&);
};

// In the order of the report.
std::span<const Study* const> studies();
// nullptr for an unknown name.
const Study* study_named(std::string_view name);
std::vector<std::string> study_names();

}  // namespace rwkvx
