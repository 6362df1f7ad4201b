#include "rwkvx/checkpoint/checkpoint_directory.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/formats/safetensors.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

namespace fs = std::filesystem;

void put(const fs::path& path, const std::string& bytes) {
  fs::create_directories(path.parent_path());
  fs::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

void flip(const fs::path& path, std::size_t byte) {
  auto bytes = read_file(path);
  bytes.at(byte) ^= 4;
  put(path, bytes);
}

// Fills a checkpoint whose files all tell `number`.
void fill(const fs::path& directory, int number) {
  put(directory / "config.json", "{\"number\": " + std::to_string(number) + "}\n");
  const std::vector<float> values(1000, static_cast<float>(number));
  const std::vector<TensorView> tensors{
      {"emb.weight", DType::kF32, {10, 100}, std::as_bytes(std::span(values))},
      {"blocks.0.att.key.weight", DType::kF32, {1000}, std::as_bytes(std::span(values))}};
  write_safetensors(directory / "model.safetensors", tensors, {{"number", std::to_string(number)}});
  put(directory / "tokenizer" / "tokenizer.json", "{}");
  put(directory / "trainer" / "state.json", std::string(100, 't'));
}

void save(const fs::path& path, int number) {
  CheckpointWriter writer(path);
  fill(writer.path(), number);
  writer.commit();
}

int number_of(const CheckpointDirectory& directory) {
  const auto weights = read_safetensors(directory.weights());
  const int number = std::stoi(weights.metadata().at("number"));
  EXPECT_EQ(to_float32(weights.at("emb.weight"))[999], static_cast<float>(number));
  EXPECT_EQ(nlohmann::json::parse(read_file(directory.config()))["number"], number);
  return number;
}

std::string complaint(const std::function<void()>& operation) {
  try {
    operation();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_status(), 3);
    return error.what();
  }
  return "";
}

void expect_refused(const fs::path& path, const std::string& says,
                    Verification verification = Verification::kFiles) {
  const auto found = complaint([&] { open_checkpoint(path, verification); });
  EXPECT_NE(found.find(says), std::string::npos) << says << "\nis not in: " << found;
  EXPECT_EQ(found.find('\n'), std::string::npos);
}

std::vector<std::string> names(const fs::path& folder) {
  std::vector<std::string> all;
  for (const auto& entry : fs::directory_iterator(folder))
    all.push_back(entry.path().filename().string());
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<std::string> listed(const fs::path& folder) {
  std::vector<std::string> all;
  for (const auto& entry : list_checkpoints(folder))
    all.push_back(entry.name + (entry.complete ? "" : " (incomplete)"));
  return all;
}

using Names = std::vector<std::string>;

TEST(CheckpointDirectory, WhatIsSavedIsOpened) {
  const ScratchDirectory folder;
  save(folder / "run/checkpoints/step-00000005", 5);
  for (const auto how : {Verification::kSizes, Verification::kTensors, Verification::kFiles}) {
    const auto directory = open_checkpoint(folder / "run/checkpoints/step-00000005/", how);
    EXPECT_EQ(number_of(directory), 5);
    EXPECT_TRUE(directory.has("tokenizer/tokenizer.json"));
    EXPECT_FALSE(directory.has("checksums.json"));
    EXPECT_TRUE(directory.has_trainer());
    EXPECT_EQ(directory.files.size(), 4U);
    EXPECT_EQ(directory.files.at("config.json").hash, hash_file(directory.config()));
  }
  EXPECT_EQ(names(folder / "run/checkpoints"), Names{"step-00000005"});
}

TEST(CheckpointDirectory, WithoutCommitNothingRemains) {
  const ScratchDirectory folder;
  {
    CheckpointWriter writer(folder / "best");
    fill(writer.path(), 1);
    EXPECT_NE(writer.path(), folder / "best");
  }
  EXPECT_EQ(names(folder.path()), Names{});
}

TEST(CheckpointDirectory, AnotherOfTheSameNameIsReplaced) {
  const ScratchDirectory folder;
  for (int number = 1; number <= 3; ++number) {
    save(folder / "best", number);
    EXPECT_EQ(number_of(open_checkpoint(folder / "best")), number);
    EXPECT_EQ(names(folder.path()), Names{"best"});
  }
}

TEST(CheckpointDirectory, AFailedSaveLeavesTheOneBefore) {
  const ScratchDirectory folder;
  save(folder / "best", 1);
  const auto found = complaint([&] {
    CheckpointWriter writer(folder / "best");
    put(writer.path() / "config.json", "{}");
    writer.commit();
  });
  EXPECT_NE(found.find("model.safetensors: was not written"), std::string::npos) << found;
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 1);
  EXPECT_EQ(names(folder.path()), Names{"best"});
}

TEST(CheckpointDirectory, ADirectoryThatIsNoCheckpointIsNotReplaced) {
  const ScratchDirectory folder;
  put(folder / "thesis" / "chapter.tex", "dear to someone");
  EXPECT_NE(complaint([&] {
              CheckpointWriter writer(folder / "thesis");
            }).find("exists and is no checkpoint, so it is not replaced"),
            std::string::npos);
  EXPECT_EQ(names(folder.path()), Names{"thesis"});
  put(folder / "file", "x");
  EXPECT_NE(complaint([&] { CheckpointWriter writer(folder / "file"); }), "");
  fs::create_directory(folder / "empty");
  save(folder / "empty", 1);
  EXPECT_EQ(number_of(open_checkpoint(folder / "empty")), 1);
}

TEST(CheckpointDirectory, OnlyFilesAndDirectoriesAreSaved) {
  const ScratchDirectory folder;
  CheckpointWriter writer(folder / "best");
  fill(writer.path(), 1);
  fs::create_symlink("/etc/hostname", writer.path() / "link");
  EXPECT_NE(complaint([&] { writer.commit(); }).find("link: only files and directories"),
            std::string::npos);
}

TEST(CheckpointDirectory, AHalfWrittenOneIsRefusedByName) {
  const ScratchDirectory folder;
  fill(folder / "step-00000002", 2);
  expect_refused(folder / "step-00000002",
                 "step-00000002/checksums.json: is missing: the checkpoint was not written to its "
                 "end; there is no intact one beside it");
  save(folder / "step-00000001", 1);
  expect_refused(folder / "step-00000002",
                 "the newest intact one beside it is " + (folder / "step-00000001").string());
}

TEST(CheckpointDirectory, AMissingFileIsNamed) {
  const ScratchDirectory folder;
  for (const auto* name : {"config.json", "model.safetensors", "tokenizer/tokenizer.json"}) {
    save(folder / "best", 1);
    fs::remove(folder / "best" / name);
    expect_refused(folder / "best",
                   (folder / "best" / name).string() + ": is missing from the checkpoint",
                   Verification::kSizes);
  }
}

TEST(CheckpointDirectory, AFileCutOffIsNamed) {
  const ScratchDirectory folder;
  save(folder / "best", 1);
  fs::resize_file(folder / "best/model.safetensors", 1000);
  expect_refused(folder / "best", "best/model.safetensors: expected ", Verification::kSizes);
  expect_refused(folder / "best", "got 1000: the file is cut off", Verification::kTensors);
}

TEST(CheckpointDirectory, AFlippedBitIsNamedByFileAndTensor) {
  const ScratchDirectory folder;
  for (const auto how : {Verification::kTensors, Verification::kFiles}) {
    save(folder / "best", 1);
    const auto size = fs::file_size(folder / "best/model.safetensors");
    flip(folder / "best/model.safetensors", size - 1);
    expect_refused(folder / "best", "best/model.safetensors: blocks.0.att.key.weight: checksum ",
                   how);
    save(folder / "best", 1);
    flip(folder / "best/model.safetensors", size - 4001);
    expect_refused(folder / "best", "best/model.safetensors: emb.weight: checksum ", how);
    save(folder / "best", 1);
    flip(folder / "best/trainer/state.json", 3);
    expect_refused(folder / "best", "best/trainer/state.json: checksum ", how);
    save(folder / "best", 1);
    flip(folder / "best/config.json", 2);
    expect_refused(folder / "best", "best/config.json: checksum ", how);
    EXPECT_NO_THROW(open_checkpoint(folder / "best", Verification::kSizes));
  }
}

TEST(CheckpointDirectory, AFlippedBitInAnyByteOfASmallFileIsFound) {
  const ScratchDirectory folder;
  save(folder / "best", 1);
  for (const auto* name : {"config.json", "checksums.json", "tokenizer/tokenizer.json"}) {
    const auto path = folder / "best" / std::string(name);
    const auto good = read_file(path);
    for (std::size_t i = 0; i < good.size(); ++i) {
      auto damaged = good;
      damaged[i] ^= static_cast<char>(1 << (i * 3 % 8));
      put(path, damaged);
      const auto found = complaint([&] { open_checkpoint(folder / "best"); });
      // A line break or space of the JSON may become another one, which changes nothing.
      if (found.empty())
        EXPECT_EQ(nlohmann::json::parse(damaged), nlohmann::json::parse(good)) << name << i;
      else
        EXPECT_NE(found.find(name), std::string::npos) << found;
    }
    put(path, good);
  }
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 1);
}

TEST(CheckpointDirectory, ChecksumsThatLeadOutsideAreRefused) {
  const ScratchDirectory folder;
  put(folder / "outside", "x");
  const auto write_checksums = [&](const std::string& name) {
    nlohmann::json rows;
    for (const auto& file : {name, std::string("config.json"), std::string("model.safetensors")})
      rows[file] = {{"size", 1}, {"xxh3_128", "0"}};
    put(folder / "best" / "checksums.json",
        nlohmann::json{{"files", rows}, {"xxh3_128", hash_bytes(rows.dump())}}.dump());
  };
  for (const std::string name :
       {"../outside", "/etc/hostname", "", ".", "a/../b", "a/", "checksums.json", "./a"}) {
    write_checksums(name);
    expect_refused(folder / "best", "is no name of a file in a checkpoint");
  }
  for (const auto* text : {"", "{", "[]", "{}", R"({"files":1,"xxh3_128":"0"})",
                           R"({"files":{},"xxh3_128":"0"})", "nul", "\xff"}) {
    put(folder / "best" / "checksums.json", text);
    expect_refused(folder / "best", "checksums.json: ");
  }
  put(folder / "best" / "checksums.json", std::string(5'000'000, '['));
  expect_refused(folder / "best", "is larger than");
}

TEST(CheckpointDirectory, TheNewestIntactOneBesideItIsOffered) {
  const ScratchDirectory folder;
  for (const int step : {9, 100, 20}) save(folder / step_name(step), step);
  save(folder / "best", 9);
  fs::remove(folder / step_name(100) / "checksums.json");
  expect_refused(folder / step_name(100),
                 "; the newest intact one beside it is " + (folder / step_name(20)).string());
  flip(folder / step_name(20) / "model.safetensors", 5000);
  expect_refused(folder / step_name(100),
                 "; the newest intact one beside it is " + (folder / step_name(9)).string());
  fs::remove(folder / step_name(9) / "config.json");
  expect_refused(folder / step_name(100),
                 "; the only intact one beside it is " + (folder / "best").string());
  fs::remove(folder / "best" / "config.json");
  expect_refused(folder / step_name(100), "; there is no intact one beside it");
  expect_refused(folder / "no-such", "there is no such checkpoint; there is no intact one");
}

TEST(CheckpointDirectory, WhatIsNoCheckpointIsRefused) {
  const ScratchDirectory folder;
  expect_refused(folder / "no/such", "no/such: there is no such checkpoint");
  expect_refused(folder.path(), "checksums.json: is missing: the directory is not a checkpoint");
  put(folder / "file", "x");
  expect_refused(folder / "file", "expected a checkpoint directory, got a file");
}

TEST(CheckpointDirectory, StepsAreListedInOrderThenBest) {
  const ScratchDirectory folder;
  EXPECT_EQ(listed(folder / "no-such"), Names{});
  for (const int step : {100, 20, 3}) save(folder / step_name(step), step);
  save(folder / "best", 1);
  fill(folder / "step-4", 4);
  for (const auto* name : {"step-", "step-x", "step-1x", "other", "best.tmp-1", "best.old-1"})
    fs::create_directory(folder / name);
  put(folder / "step-7", "a file");
  EXPECT_EQ(listed(folder.path()), (Names{"step-00000003", "step-4 (incomplete)", "step-00000020",
                                          "step-00000100", "best"}));
  EXPECT_EQ(step_name(123456789), "step-123456789");
}

TEST(CheckpointDirectory, TheLatestIsTheHighestIntactStep) {
  const ScratchDirectory folder;
  EXPECT_EQ(latest_checkpoint(folder.path()), std::nullopt);
  const auto checkpoints = folder / "checkpoints";
  for (const int step : {1, 2, 3}) save(checkpoints / step_name(step), step);
  save(checkpoints / "best", 1);
  EXPECT_EQ(latest_checkpoint(folder.path()), checkpoints / step_name(3));
  flip(checkpoints / step_name(3) / "model.safetensors", 5000);
  EXPECT_EQ(latest_checkpoint(folder.path()), checkpoints / step_name(2));
  EXPECT_EQ(latest_checkpoint(checkpoints), checkpoints / step_name(2));
}

TEST(CheckpointDirectory, ARunsFolderMeansItsBestElseItsLatest) {
  const ScratchDirectory folder;
  const auto run = folder / "run", checkpoints = run / "checkpoints";
  EXPECT_NE(complaint([&] { resolve_checkpoint(run); }).find("no such checkpoint or run"),
            std::string::npos);
  fs::create_directories(run);
  EXPECT_NE(complaint([&] { resolve_checkpoint(run); }).find("expected a checkpoint or a run"),
            std::string::npos);
  EXPECT_NE(complaint([&] { resolve_checkpoint(run / "latest"); }).find("got no intact one"),
            std::string::npos);
  put(run / "config.json", "{}");  // a run's folder may hold its config
  for (const int step : {1, 2}) save(checkpoints / step_name(step), step);
  EXPECT_EQ(resolve_checkpoint(run), checkpoints / step_name(2));
  save(checkpoints / "best", 1);
  EXPECT_EQ(resolve_checkpoint(run), checkpoints / "best");
  EXPECT_EQ(resolve_checkpoint(run / ""), checkpoints / "best");
  EXPECT_EQ(resolve_checkpoint(checkpoints), checkpoints / "best");
  EXPECT_EQ(resolve_checkpoint(checkpoints / step_name(1)), checkpoints / step_name(1));
  EXPECT_EQ(resolve_checkpoint(run / "latest"), checkpoints / step_name(2));
  EXPECT_EQ(resolve_checkpoint(checkpoints / "latest"), checkpoints / step_name(2));
  EXPECT_EQ(resolve_checkpoint(run / "best"), checkpoints / "best");
  EXPECT_EQ(resolve_checkpoint(run / "step-1"), checkpoints / step_name(1));
  const auto found = complaint([&] { resolve_checkpoint(run / "step-5"); });
  EXPECT_NE(found.find("newest intact one beside it is " + (checkpoints / step_name(2)).string()),
            std::string::npos)
      << found;
}

TEST(CheckpointDirectory, ARunWithoutAnIntactOneSaysWhy) {
  const ScratchDirectory folder;
  save(folder / "step-1", 1);
  fs::remove(folder / "step-1" / "checksums.json");
  expect_refused(resolve_checkpoint(folder.path()), "was not written to its end");
}

TEST(CheckpointDirectory, PathsRelativeToTheCurrentDirectoryWork) {
  const ScratchDirectory folder;
  const auto before = fs::current_path();
  fs::current_path(folder.path());
  save("best", 1);
  EXPECT_EQ(number_of(open_checkpoint("best")), 1);
  EXPECT_EQ(resolve_checkpoint("."), fs::current_path() / "best");
  fs::current_path(folder / "best");
  EXPECT_EQ(number_of(open_checkpoint(resolve_checkpoint("."))), 1);
  fs::current_path(before);
}

// The process id of a process that has ended.
pid_t dead_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  return child;
}

TEST(CheckpointDirectory, LeftoversOfDeadProcessesAreRemovedAndThoseOfLiveOnesKept) {
  const ScratchDirectory folder;
  const auto dead = std::to_string(dead_process());
  fill(folder / ("best.tmp-" + dead), 1);
  fill(folder / ("step-00000007.tmp-" + dead), 1);
  fill(folder / ("step-00000006.gone-" + dead), 1);
  fill(folder / ("best.tmp-" + std::to_string(::getpid())), 1);  // an id used again
  fill(folder / ("thesis.tmp-" + dead), 1);                      // not ours
  fill(folder / "best.tmp-", 1);
  const CheckpointWriter live(folder / "step-00000008");
  save(folder / "best", 2);
  EXPECT_EQ(names(folder.path()), (Names{"best", "best.tmp-", "step-00000008.lock",
                                         live.path().filename().string(), "thesis.tmp-" + dead}));
}

TEST(CheckpointDirectory, LeftoversGoWithoutAWriterToo) {
  const ScratchDirectory folder;
  const auto dead = std::to_string(dead_process());
  save(folder / "step-00000008", 1);
  fill(folder / ("step-00000006.gone-" + dead), 1);
  fill(folder / ("best.old-" + dead), 1);
  write_file(folder / "step-00000008.lock", "process 1 on here\n");
  clean_up_checkpoints(folder.path());
  EXPECT_EQ(names(folder.path()), (Names{"best", "step-00000008"}));
}

TEST(CheckpointDirectory, TwoWritersOfOneCheckpointDoNotMix) {
  const ScratchDirectory folder;
  const CheckpointWriter first(folder / "best");
  EXPECT_NE(complaint([&] {
              CheckpointWriter second(folder / "best");
            }).find("is in use by process " + std::to_string(::getpid()) + " on "),
            std::string::npos);
  EXPECT_TRUE(fs::exists(first.path()));
}

TEST(CheckpointDirectory, ADeadWritersLockGoesWithItsTemporaryDirectory) {
  const ScratchDirectory folder;
  write_file(folder / "step-00000007.lock", "process 1 on here\n");
  write_file(folder / "thesis.lock", "");
  save(folder / "step-00000008", 1);
  EXPECT_EQ(names(folder.path()), (Names{"step-00000008", "thesis.lock"}));
}

TEST(CheckpointDirectory, ADamagedOneIsNamedAndASetAsideOneCountsNoMore) {
  const ScratchDirectory folder;
  for (int step = 1; step <= 3; ++step) save(folder / step_name(step), step);
  fs::resize_file(folder / step_name(3) / kWeightsFile, 10);
  std::vector<DamagedCheckpoint> damaged;
  EXPECT_EQ(latest_checkpoint(folder.path(), 3, &damaged), folder / step_name(2));
  ASSERT_EQ(damaged.size(), 1u);
  EXPECT_EQ(damaged[0].path, folder / step_name(3));
  EXPECT_NE(damaged[0].reason.find("cut off"), std::string::npos) << damaged[0].reason;
  EXPECT_EQ(latest_checkpoint(folder.path(), 1), folder / step_name(1));
  EXPECT_EQ(latest_checkpoint(folder.path(), 0), std::nullopt);
  EXPECT_EQ(set_aside(folder / step_name(2), "damaged").filename(), step_name(2) + ".damaged");
  EXPECT_EQ(latest_checkpoint(folder.path()), folder / step_name(1));
  save(folder / step_name(2), 2);
  EXPECT_EQ(set_aside(folder / step_name(2), "damaged").filename(), step_name(2) + ".damaged-2");
}

TEST(CheckpointDirectory, WhatIsNoCheckpointIsNotRemoved) {
  const ScratchDirectory folder;
  write_file(folder / "best", "a file");
  fs::create_directory(folder / step_name(1));
  write_file(folder / step_name(1) / "thesis.txt", "my own");
  EXPECT_THROW(remove_checkpoint(folder / "best"), CheckpointError);
  EXPECT_THROW(remove_checkpoint(folder / step_name(1)), CheckpointError);
  EXPECT_EQ(read_file(folder / step_name(1) / "thesis.txt"), "my own");
}

TEST(CheckpointDirectory, CutOffBetweenTheRenamesTheOldOneStandsIn) {
  const ScratchDirectory folder;
  const auto dead = std::to_string(dead_process());
  save(folder / "best", 1);
  fs::rename(folder / "best", folder / ("best.old-" + dead));
  fill(folder / ("best.tmp-" + dead), 2);
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 1);
  EXPECT_EQ(number_of(open_checkpoint(resolve_checkpoint(folder.path()))), 1);
  EXPECT_EQ(number_of(open_checkpoint(resolve_checkpoint(folder / "best"))), 1);
  EXPECT_EQ(listed(folder.path()), Names{"best"});
  // The next writer puts it back, even if it writes another checkpoint or nothing.
  { CheckpointWriter writer(folder / "step-00000001"); }
  EXPECT_EQ(names(folder.path()), Names{"best"});
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 1);
}

TEST(CheckpointDirectory, CutOffAfterTheRenamesTheNewOneIsThere) {
  const ScratchDirectory folder;
  save(folder / "best", 2);
  fill(folder / ("best.old-" + std::to_string(dead_process())), 1);
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 2);
  EXPECT_EQ(listed(folder.path()), Names{"best"});
  save(folder / "step-00000001", 1);
  EXPECT_EQ(names(folder.path()), (Names{"best", "step-00000001"}));
}

TEST(CheckpointDirectory, AHardLinkCopySharesItsFilesAndOutlivesTheOriginal) {
  const ScratchDirectory folder;
  save(folder / "step-00000001", 1);
  save(folder / "best", 9);
  hard_link_copy(folder / "step-00000001", folder / "best");
  struct stat status {};
  ASSERT_EQ(::stat((folder / "best/model.safetensors").c_str(), &status), 0);
  EXPECT_EQ(status.st_nlink, 2U);
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 1);
  remove_checkpoint(folder / "step-00000001");
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 1);
  EXPECT_EQ(names(folder.path()), Names{"best"});
}

TEST(CheckpointDirectory, AnIncompleteOneIsNotCopied) {
  const ScratchDirectory folder;
  save(folder / "best", 9);
  fill(folder / "step-00000001", 1);
  EXPECT_NE(complaint([&] { hard_link_copy(folder / "step-00000001", folder / "best"); }), "");
  EXPECT_EQ(number_of(open_checkpoint(folder / "best")), 9);
}

TEST(CheckpointDirectory, RemovingWhatIsNotThereIsAnError) {
  const ScratchDirectory folder;
  EXPECT_NE(complaint([&] { remove_checkpoint(folder / "best"); }), "");
}

TEST(CheckpointDirectory, RandomDamageIsAnErrorOrTheSameContent) {
  const ScratchDirectory folder;
  save(folder / "best", 7);
  std::mt19937 random(1);
  const Names files{"config.json", "model.safetensors", "checksums.json",
                    "tokenizer/tokenizer.json", "trainer/state.json"};
  for (int round = 0; round < 1000; ++round) {
    const auto path = folder / "best" / files[random() % files.size()];
    const auto good = read_file(path);
    auto damaged = good;
    switch (random() % 3) {
      case 0:
        damaged.resize(random() % (good.size() + 10));
        break;
      case 1:
        damaged[random() % good.size()] ^= static_cast<char>(1 << (random() % 8));
        break;
      default:
        damaged.replace(random() % good.size(), 16, good.substr(random() % good.size(), 16));
    }
    put(path, damaged);
    for (const auto how : {Verification::kFiles, Verification::kTensors})
      complaint([&] { EXPECT_EQ(number_of(open_checkpoint(folder / "best", how)), 7); });
    put(path, good);
  }
}

// A process that saves without end is killed at random moments. At each, the best checkpoint and
// the newest step can be opened, and hold no mixture of two saves.
TEST(CheckpointKillSlow, KilledDuringASaveLeavesALoadableCheckpoint) {
  const ScratchDirectory folder;
  const auto start = std::chrono::steady_clock::now();
  save(folder / "best", 0);
  save(folder / step_name(1), 1);
  const auto two_saves = std::chrono::duration_cast<std::chrono::microseconds>(
                             std::chrono::steady_clock::now() - start)
                             .count();
  std::mt19937 random(1);
  int next = 2, saves = 0;
  // Beside other work the processes may come to no save for a while.
  for (int round = 0; round < 60 || (saves == 0 && round < 600); ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      for (int number = next;; ++number) {
        save(folder / "best", number);
        save(folder / step_name(number), number);
        if (number % 3 == 0) hard_link_copy(folder / step_name(number), folder / "best");
        const auto steps = list_checkpoints(folder.path());
        if (steps.size() > 3) remove_checkpoint(steps.front().path);
      }
    }
    std::this_thread::sleep_for(
        std::chrono::microseconds(random() % (2 * two_saves * (1 + round / 60))));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ::waitpid(child, nullptr, 0);
    const int best = number_of(open_checkpoint(folder / "best"));
    EXPECT_GE(best, next - 2);
    const auto latest = latest_checkpoint(folder.path());
    ASSERT_TRUE(latest.has_value());
    const int newest = number_of(open_checkpoint(*latest));
    EXPECT_GE(newest, next - 1);
    for (const auto& entry : list_checkpoints(folder.path())) EXPECT_TRUE(entry.complete);
    saves += newest + 1 - next;
    next = newest + 1;
  }
  EXPECT_GT(saves, 0);
  save(folder / "best", next);
  for (const auto& name : names(folder.path()))
    EXPECT_TRUE(name == "best" || (name.starts_with("step-") && name.size() == 13)) << name;
}

}  // namespace
}  // namespace rwkvx
