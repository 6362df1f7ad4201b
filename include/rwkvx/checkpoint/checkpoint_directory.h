// A checkpoint is one directory that is whole or not there, and tells when it was damaged since:
//
//   config.json  model.safetensors  tokenizer/  trainer/ (to resume from)  checksums.json
//
// checksums.json holds the size and XXH3-128 of every other file and is written last. Checkpoints
// of a run are named step-00000100 and best; they lie side by side in one folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "rwkvx/base/descriptor.h"
#include "rwkvx/base/lock.h"

namespace rwkvx {

inline constexpr char kConfigFile[] = "config.json";
inline constexpr char kWeightsFile[] = "model.safetensors";
inline constexpr char kTokenizerFolder[] = "tokenizer";
inline constexpr char kTrainerFolder[] = "trainer";
inline constexpr char kChecksumsFile[] = "checksums.json";
inline constexpr char kBestName[] = "best";
inline constexpr char kCheckpointsFolder[] = "checkpoints";  // of a run's folder

// "step-00000100".
std::string step_name(std::int64_t step);

// A checkpoint being written, in a directory of its own beside the final one. Killed at any moment,
// it leaves the checkpoint that was there before, or the new one. Without commit() the destructor
// removes what was written. Every failure throws FileError or CheckpointError.
class CheckpointWriter {
 public:
  // Makes the temporary directory, and first removes those that killed processes left in this
  // folder. Throws FileError where another process writes this checkpoint, naming it.
  explicit CheckpointWriter(std::filesystem::path final_path);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  // The existing, empty directory to put the files in.
  const std::filesystem::path& path() const { return temporary_; }
  // Writes checksums.json, makes everything permanent and gives the directory its final name, in
  // place of an older checkpoint of that name. Nothing may be written after it.
  void commit();

 private:
  friend void hard_link_copy(const std::filesystem::path& from, const std::filesystem::path& to);
  void publish();
  std::filesystem::path final_, temporary_;
  std::optional<FileLock> owned_;
  Descriptor lock_;  // held as long as this writer lives: tells its directory from a dead one's
};

// What open_checkpoint() has read to be sure.
enum class Verification {
  kSizes,    // every file is there and has its size; no content
  kTensors,  // contents too; safetensors files by the checksums inside them
  kFiles,    // contents too, all by the checksums of the files
};

struct CheckpointDirectory {
  struct File {
    std::uint64_t size = 0;  // bytes
    std::string hash;        // XXH3-128 in hex
  };
  std::filesystem::path path;
  std::map<std::string, File> files;  // "tokenizer/tokenizer.json", '/' on every system

  std::filesystem::path config() const { return path / kConfigFile; }
  std::filesystem::path weights() const { return path / kWeightsFile; }
  std::filesystem::path tokenizer() const { return path / kTokenizerFolder; }
  std::filesystem::path trainer() const { return path / kTrainerFolder; }
  bool has(const std::string& file) const { return files.contains(file); }
  // Whether training can go on from it.
  bool has_trainer() const;
};

// Opens the checkpoint that is this directory. Throws CheckpointError naming what is missing or
// damaged (the file, and the tensor in a safetensors file) and the newest intact checkpoint beside
// it. If a save that replaced it was cut off between two renames, the older one is opened.
CheckpointDirectory open_checkpoint(const std::filesystem::path& path,
                                    Verification verification = Verification::kFiles);

struct CheckpointEntry {
  std::filesystem::path path;
  std::string name;                  // "step-00000100" or "best"
  std::optional<std::int64_t> step;  // of a step-… directory
  bool complete = false;             // every file is there and has its size
};

// The checkpoints in a folder, by step, then best; empty where there is no such folder.
std::vector<CheckpointEntry> list_checkpoints(const std::filesystem::path& folder);

struct DamagedCheckpoint {
  std::filesystem::path path;
  std::string reason;  // names the file
};

// The step-… checkpoint of the highest step, at most `most`, whose contents are intact. `folder`
// may be a run's folder or the one the checkpoints lie in. Those that were passed over because they
// are not intact are added to `damaged`.
std::optional<std::filesystem::path> latest_checkpoint(
    const std::filesystem::path& folder,
    std::int64_t most = std::numeric_limits<std::int64_t>::max(),
    std::vector<DamagedCheckpoint>* damaged = nullptr);

// Renames a checkpoint to NAME.MARK (NAME.MARK-2, … where that is taken), under which it counts as
// none; the new path.
std::filesystem::path set_aside(const std::filesystem::path& path, const std::string& mark);

// The checkpoint meant by a path: itself where it is one; in a run's folder the best one, else the
// newest intact; RUN/latest is the newest intact, RUN/best and RUN/step-… those of the run. Throws
// CheckpointError where there is none. Pass the result to open_checkpoint().
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

// Makes `to` the same checkpoint as the intact `from`: its files are shared by hard links, or
// copied where the file system has none. Atomic as CheckpointWriter is. Shared files save space,
// but damage to one is damage to both.
void hard_link_copy(const std::filesystem::path& from, const std::filesystem::path& to);

// Whether a directory is empty or holds a checkpoint, whole or not, so that it may be replaced or
// removed as one.
bool looks_like_checkpoint(const std::filesystem::path& path);

// Sets right what killed processes left in a folder of checkpoints: half-written and half-removed
// ones go, one that was moved aside comes back. A CheckpointWriter does the same first.
void clean_up_checkpoints(const std::filesystem::path& folder);

// Removes a checkpoint; killed at any moment, it leaves all of it or none under its name. Throws
// CheckpointError where the directory holds something else.
void remove_checkpoint(const std::filesystem::path& path);

}  // namespace rwkvx
