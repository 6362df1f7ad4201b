#include "rwkvx/checkpoint/checkpoint_directory.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/formats/safetensors.h"

namespace rwkvx {
namespace fs = std::filesystem;
namespace {

constexpr char kLatestName[] = "latest";
constexpr std::uint64_t kMaxChecksumsBytes = 1 << 22;
constexpr std::string_view kStepPrefix = "step-";
// Marks between a checkpoint's name and the id of the process that uses the directory.
constexpr std::string_view kWritingMark = ".tmp-";    // not yet complete
constexpr std::string_view kAsideMark = ".old-";      // complete, about to be replaced
constexpr std::string_view kRemovingMark = ".gone-";  // about to be removed

[[noreturn]] void fail_file(const fs::path& path, const std::string& what, int code) {
  throw FileError(path.string(), what + ": " + std::strerror(code));
}

// Runs a std::filesystem operation that reports through an error_code.
template <class Operation>
auto checked(const fs::path& path, const std::string& what, const Operation& operation) {
  std::error_code error;
  auto result = operation(error);
  if (error) throw FileError(path.string(), what + ": " + error.message());
  return result;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

void rename_directory(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) != 0)
    fail_file(from, "cannot rename to " + to.filename().string(), errno);
}

// Removes what is no longer needed; what is left is removed by the next CheckpointWriter.
void discard(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

// "runs/a/" and "." as a path that has a name and a parent.
fs::path named(const fs::path& path) {
  auto clean = path.lexically_normal();
  if (!clean.has_filename()) clean = clean.parent_path();
  if (clean.empty() || clean.filename() == "." || clean.filename() == "..")
    clean = fs::absolute(path).lexically_normal();
  if (!clean.has_filename()) clean = clean.parent_path();
  return clean;
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool all_digits(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<std::int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const auto digits = name.substr(kStepPrefix.size());
  std::int64_t step = 0;
  if (!all_digits(digits) || digits.size() > 18) return std::nullopt;
  std::from_chars(digits.data(), digits.data() + digits.size(), step);
  return step;
}

// A directory that is only there between two renames: "best.old-4711".
struct Passing {
  std::string name;       // of the checkpoint
  std::string_view mark;  // one of the three above
  pid_t process = 0;
};

std::optional<Passing> passing(const std::string& filename) {
  for (const auto mark : {kWritingMark, kAsideMark, kRemovingMark}) {
    const auto at = filename.rfind(mark);
    if (at == std::string::npos || at == 0) continue;
    const auto digits = std::string_view(filename).substr(at + mark.size());
    pid_t process = 0;
    if (!all_digits(digits) || digits.size() > 9) continue;
    std::from_chars(digits.data(), digits.data() + digits.size(), process);
    return Passing{filename.substr(0, at), mark, process};
  }
  return std::nullopt;
}

fs::path with_mark(const fs::path& path, std::string_view mark) {
  return path.string() + std::string(mark) + std::to_string(::getpid());
}

// The names in a folder, sorted; none where there is no such folder.
std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    names.push_back(it->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory)
    throw FileError(folder.string(), "cannot list the directory: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// An exclusive lock on a directory, which the kernel releases when this process ends however it
// does. Where the file system has no locks, taking one succeeds.
Descriptor lock_directory(const fs::path& path) {
  Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory) fail_file(path, "cannot open the directory", errno);
  lock_descriptor(directory.get(), LOCK_EX);
  return directory;
}

// Whether the writer of a temporary directory is still at work. The lock decides, because process
// ids are used again and mean nothing in another container; the id where there are no locks.
bool in_use(const fs::path& path, pid_t process) {
  const Descriptor directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || lock_descriptor(directory.get(), LOCK_EX | LOCK_NB) == 0) return false;
  return errno == EWOULDBLOCK || ::kill(process, 0) == 0 || errno != ESRCH;
}

// Sets right what killed processes left in a folder. The folder's lock must be held.
void clean_up(const fs::path& folder, const std::string& own_name) {
  for (const auto& filename : names_in(folder)) {
    if (const fs::path file = filename;
        file.extension() == ".lock" && (file.stem() == kBestName || step_of(file.stem().string())))
      try {
        FileLock::of_file(folder / file.stem());  // a dead owner's file goes with it
      } catch (const FileError&) {
      }
    const auto found = passing(filename);
    // A folder may hold other things; only what has a checkpoint's name is ours to remove.
    if (!found || (found->name != own_name && found->name != kBestName && !step_of(found->name)))
      continue;
    const auto path = folder / filename;
    if (!is_folder(path)) continue;
    if (found->mark == kWritingMark && in_use(path, found->process)) continue;
    if (found->mark == kAsideMark && !is_there(folder / found->name))
      rename_directory(path, folder / found->name);
    else
      discard(path);
  }
}

// The directory that a name stands for: itself, or what a cut-off replacement moved aside.
fs::path standing_for(const fs::path& path) {
  if (is_there(path)) return path;
  for (const auto& filename : names_in(folder_of(path))) {
    const auto found = passing(filename);
    if (found && found->mark == kAsideMark && found->name == path.filename().string())
      return folder_of(path) / filename;
  }
  return path;
}

// The files below a directory, as relative names with '/'.
std::vector<std::string> files_below(const fs::path& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_symlink() || !(it->is_regular_file() || it->is_directory()))
      throw CheckpointError(it->path().string(), "only files and directories make a checkpoint");
    if (it->is_regular_file())
      names.push_back(it->path().lexically_relative(directory).generic_string());
  }
  if (error) throw FileError(directory.string(), "cannot list the directory: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void sync_file(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) fail_file(path, "cannot open", errno);
  if (::fsync(file.get()) != 0) fail_file(path, "cannot flush to disk", errno);
}

std::string checksums_text(const std::map<std::string, CheckpointDirectory::File>& files) {
  auto rows = nlohmann::json::object();
  for (const auto& [name, file] : files)
    rows[name] = {{"size", file.size}, {"xxh3_128", file.hash}};
  const nlohmann::json document{{"files", rows}, {"xxh3_128", hash_bytes(rows.dump())}};
  return document.dump(2) + "\n";
}

bool stays_inside(const std::string& name) {
  const fs::path path(name);
  return !name.empty() && path.is_relative() && path.lexically_normal() == path &&
         path.has_filename() && *path.begin() != ".." && *path.begin() != "." &&
         name.find('\0') == std::string::npos;
}

// Reads checksums.json, which is no more to be trusted than the rest. Throws CheckpointError.
std::map<std::string, CheckpointDirectory::File> read_checksums(const fs::path& path) {
  const auto damaged = [&](const std::string& what) {
    throw CheckpointError(path.string(), what + ": the file is damaged");
  };
  if (checked(path, "cannot read", [&](auto& error) { return fs::file_size(path, error); }) >
      kMaxChecksumsBytes)
    damaged("is larger than " + std::to_string(kMaxChecksumsBytes) + " bytes");
  const auto document = parse_json_or_null(read_file(path));
  if (!document.is_object() || !document.contains("files") || !document["files"].is_object() ||
      !document.contains("xxh3_128"))
    damaged("expected a JSON object with files and xxh3_128");
  const auto& rows = document["files"];
  if (document["xxh3_128"] !=
      hash_bytes(rows.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)))
    damaged("its own checksum differs");
  std::map<std::string, CheckpointDirectory::File> files;
  for (const auto& [name, row] : rows.items()) {
    if (!stays_inside(name) || name == kChecksumsFile)
      damaged("\"" + name + "\" is no name of a file in a checkpoint");
    if (!row.is_object() || !row.contains("size") || !row["size"].is_number_unsigned() ||
        !row.contains("xxh3_128") || !row["xxh3_128"].is_string())
      damaged("\"" + name + "\" lacks size or xxh3_128");
    files[name] = {row["size"].get<std::uint64_t>(), row["xxh3_128"].get<std::string>()};
  }
  return files;
}

void check_content(const fs::path& path, const CheckpointDirectory::File& file,
                   Verification verification) {
  const bool tensors = path.extension() == ".safetensors";
  if (verification == Verification::kTensors && tensors) {
    const auto content = read_safetensors(path);
    if (content.has_checksums()) return content.verify();
  }
  const auto hash = hash_file(path);
  if (hash == file.hash) return;
  if (tensors) read_safetensors(path).verify();  // throws, naming the tensor, where it is in one
  throw CheckpointError(path.string(), "checksum " + hash + " differs from the stored " +
                                           file.hash + ": the file is damaged");
}

// Opens exactly this directory. Throws CheckpointError, without an offer of another.
CheckpointDirectory read_checkpoint(const fs::path& path, Verification verification) {
  if (!is_there(path)) throw CheckpointError(path.string(), "there is no such checkpoint");
  if (!is_folder(path))
    throw CheckpointError(path.string(), "expected a checkpoint directory, got a file");
  if (!is_there(path / kChecksumsFile))
    throw CheckpointError((path / kChecksumsFile).string(),
                          is_there(path / kWeightsFile) || is_there(path / kConfigFile)
                              ? "is missing: the checkpoint was not written to its end"
                              : "is missing: the directory is not a checkpoint");
  CheckpointDirectory directory{path, read_checksums(path / kChecksumsFile)};
  for (const auto* needed : {kConfigFile, kWeightsFile})
    if (!directory.has(needed))
      throw CheckpointError((path / kChecksumsFile).string(),
                            "does not name " + std::string(needed) + ": this is not a checkpoint");
  for (const auto& [name, file] : directory.files) {
    const auto where = path / name;
    std::error_code error;
    if (!fs::is_regular_file(where, error))
      throw CheckpointError(where.string(), "is missing from the checkpoint");
    const auto size =
        checked(where, "cannot read", [&](auto& code) { return fs::file_size(where, code); });
    if (size != file.size)
      throw CheckpointError(where.string(), "expected " + std::to_string(file.size) +
                                                " bytes, got " + std::to_string(size) +
                                                ": the file is " +
                                                (size < file.size ? "cut off" : "damaged"));
  }
  if (verification == Verification::kSizes) return directory;
  for (const auto& [name, file] : directory.files) check_content(path / name, file, verification);
  return directory;
}

bool intact(const fs::path& path, Verification verification) {
  try {
    read_checkpoint(path, verification);
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Where a run's checkpoints lie: RUN/checkpoints, or the folder itself.
fs::path checkpoints_folder(const fs::path& folder) {
  return is_folder(folder / kCheckpointsFolder) ? folder / kCheckpointsFolder : folder;
}

// "; the newest intact one beside it is …", for the end of a message about `path`.
std::string offer(const fs::path& path) {
  try {
    const auto entries = list_checkpoints(checkpoints_folder(folder_of(path)));
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry)
      if (entry->step && entry->name != path.filename() &&
          intact(entry->path, Verification::kFiles))
        return "; the newest intact one beside it is " + entry->path.string();
    // The best one comes last: it may be much older.
    for (const auto& entry : entries)
      if (!entry.step && entry.name != path.filename() && intact(entry.path, Verification::kFiles))
        return "; the only intact one beside it is " + entry.path.string();
    return entries.empty() ? "" : "; there is no intact one beside it";
  } catch (const Error&) {
    return "";  // the folder cannot be read: the first error matters more
  }
}

}  // namespace

std::string step_name(std::int64_t step) {
  const auto digits = std::to_string(step);
  return std::string(kStepPrefix) + std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0') +
         digits;
}

bool CheckpointDirectory::has_trainer() const {
  const auto prefix = std::string(kTrainerFolder) + "/";
  const auto first = files.lower_bound(prefix);
  return first != files.end() && first->first.starts_with(prefix);
}

bool looks_like_checkpoint(const fs::path& path) {
  for (const auto* file : {kChecksumsFile, kConfigFile, kWeightsFile})
    if (is_there(path / file)) return true;
  return is_folder(path) && names_in(path).empty();
}

CheckpointWriter::CheckpointWriter(fs::path final_path)
    : final_(named(final_path)), temporary_(with_mark(final_, kWritingMark)) {
  const auto folder = folder_of(final_);
  checked(folder, "cannot make the directory",
          [&](auto& error) { return fs::create_directories(folder, error); });
  owned_.emplace(FileLock::of_file(final_));
  // Whoever cleans up holds this lock: the temporary directory is not seen before it has its own.
  const auto folder_lock = lock_directory(folder);
  clean_up(folder, final_.filename().string());
  if (is_there(final_) && !looks_like_checkpoint(final_))
    throw CheckpointError(final_.string(),
                          "exists and is no checkpoint, so it is not replaced; name another path");
  if (!checked(temporary_, "cannot make the directory",
               [&](auto& error) { return fs::create_directory(temporary_, error); }))
    throw CheckpointError(temporary_.string(), "already exists; remove this directory");
  lock_ = lock_directory(temporary_);
}

CheckpointWriter::~CheckpointWriter() {
  if (!temporary_.empty()) discard(temporary_);
}

void CheckpointWriter::commit() {
  std::map<std::string, CheckpointDirectory::File> files;
  for (const auto& name : files_below(temporary_)) {
    const auto path = temporary_ / name;
    files[name] = {
        checked(path, "cannot read", [&](auto& error) { return fs::file_size(path, error); }),
        hash_file(path)};
  }
  for (const auto* needed : {kConfigFile, kWeightsFile})
    if (!files.contains(needed))
      throw CheckpointError((temporary_ / needed).string(), "was not written");
  files.erase(kChecksumsFile);
  // Contents first: checksums.json says that everything else is there.
  for (const auto& [name, file] : files) sync_file(temporary_ / name);
  write_file(temporary_ / kChecksumsFile, checksums_text(files));
  publish();
}

// Gives a complete directory its final name.
void CheckpointWriter::publish() {
  std::set<fs::path> directories{temporary_};
  for (const auto& name : files_below(temporary_))
    for (auto parent = (temporary_ / name).parent_path(); parent != temporary_;
         parent = parent.parent_path())
      directories.insert(parent);
  for (const auto& directory : directories) sync_directory(directory);

  const auto folder = folder_of(final_);
  const auto aside = with_mark(final_, kAsideMark);
  {
    const auto folder_lock = lock_directory(folder);
    const bool replaces = is_there(final_);
    // Between the two renames the old checkpoint is the one that is opened; see standing_for().
    if (replaces) rename_directory(final_, aside);
    try {
      rename_directory(temporary_, final_);
    } catch (const FileError&) {
      if (replaces) ::rename(aside.c_str(), final_.c_str());
      throw;
    }
  }
  temporary_.clear();
  sync_directory(folder);
  discard(aside);
}

void clean_up_checkpoints(const fs::path& folder) {
  const auto folder_lock = lock_directory(folder);
  clean_up(folder, "");
}

CheckpointDirectory open_checkpoint(const fs::path& path, Verification verification) {
  const auto name = named(path);
  try {
    return read_checkpoint(standing_for(name), verification);
  } catch (const Error& error) {
    throw CheckpointError("", error.what() + offer(name));
  }
}

std::vector<CheckpointEntry> list_checkpoints(const fs::path& folder) {
  std::vector<CheckpointEntry> entries;
  for (const auto& filename : names_in(folder)) {
    const auto found = passing(filename);
    const auto name = found ? found->name : filename;
    const auto step = step_of(name);
    const auto path = folder / filename;
    if ((!step && name != kBestName) || !is_folder(path)) continue;
    if (found && (found->mark != kAsideMark || is_there(folder / name))) continue;
    entries.push_back({path, name, step, intact(path, Verification::kSizes)});
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.step && b.step ? *a.step < *b.step : a.step.has_value() && !b.step.has_value();
  });
  return entries;
}

std::optional<fs::path> latest_checkpoint(const fs::path& folder, std::int64_t most,
                                          std::vector<DamagedCheckpoint>* damaged) {
  const auto entries = list_checkpoints(checkpoints_folder(folder));
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (!entry->step || *entry->step > most) continue;
    try {
      read_checkpoint(entry->path, Verification::kFiles);
      return entry->path;
    } catch (const Error& error) {
      if (damaged != nullptr) damaged->push_back({entry->path, error.what()});
    }
  }
  return std::nullopt;
}

fs::path set_aside(const fs::path& path, const std::string& mark) {
  const auto name = named(path);
  const auto folder_lock = lock_directory(folder_of(name));
  fs::path aside = name.string() + "." + mark;
  for (int number = 2; is_there(aside); ++number)
    aside = name.string() + "." + mark + "-" + std::to_string(number);
  rename_directory(name, aside);
  sync_directory(folder_of(name));
  return aside;
}

fs::path resolve_checkpoint(const fs::path& path) {
  const auto name = named(path);
  if (is_folder(name)) {
    if (is_there(name / kChecksumsFile)) return name;
    const auto entries = list_checkpoints(checkpoints_folder(name));
    for (const auto& entry : entries)
      if (entry.name == kBestName) return entry.path;
    if (const auto latest = latest_checkpoint(name)) return *latest;
    if (!entries.empty()) return entries.back().path;  // opening it tells what is wrong with it
    if (is_there(name / kWeightsFile) || is_there(name / kConfigFile)) return name;
    throw CheckpointError(name.string(), "expected a checkpoint or a run directory, got no " +
                                             std::string(kChecksumsFile) +
                                             " and no checkpoints in it" + offer(name));
  }
  if (is_there(name) || is_there(standing_for(name))) return name;
  // RUN/latest, RUN/best and RUN/step-… are not there as such.
  const auto folder = checkpoints_folder(folder_of(name));
  if (name.filename() == kLatestName) {
    if (const auto latest = latest_checkpoint(folder)) return *latest;
    throw CheckpointError(folder.string(), "expected a checkpoint, got no intact one");
  }
  const auto step = step_of(name.filename().string());
  if (step || name.filename() == kBestName)
    for (const auto& entry : list_checkpoints(folder))
      if (step ? entry.step == step : entry.name == kBestName) return entry.path;
  throw CheckpointError(name.string(), "there is no such checkpoint or run" + offer(name));
}

void hard_link_copy(const fs::path& from, const fs::path& to) {
  CheckpointWriter writer(to);
  const auto source = open_checkpoint(from, Verification::kSizes);
  auto names = source.files;
  names[kChecksumsFile] = {};
  for (const auto& [name, file] : names) {
    const auto old_path = source.path / name, new_path = writer.path() / name;
    checked(new_path, "cannot make its directory",
            [&](auto& error) { return fs::create_directories(new_path.parent_path(), error); });
    if (::link(old_path.c_str(), new_path.c_str()) == 0) continue;
    checked(new_path, "cannot copy " + old_path.string(),
            [&](auto& error) { return fs::copy_file(old_path, new_path, error); });
    sync_file(new_path);
  }
  writer.publish();
}

void remove_checkpoint(const fs::path& path) {
  const auto name = named(path);
  if (!is_folder(name)) throw CheckpointError(name.string(), "there is no such checkpoint");
  if (!looks_like_checkpoint(name))
    throw CheckpointError(name.string(), "is not a checkpoint, so it is not removed");
  const auto removing = with_mark(name, kRemovingMark);
  {
    const auto folder_lock = lock_directory(folder_of(name));
    rename_directory(name, removing);
  }
  sync_directory(folder_of(name));
  discard(removing);
}

}  // namespace rwkvx
