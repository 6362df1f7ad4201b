// Token files and their manifests: an Error, or documents that can be read to their ends.
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/data/corpus.h"
#include "rwkvx/data/token_file.h"

using namespace rwkvx;

namespace {

constexpr std::size_t kLengths = 8;  // of an input: two lengths, then index, tokens and manifest

std::string joined(const std::string& index, const std::string& tokens,
                   const std::string& manifest) {
  const std::uint32_t lengths[2] = {static_cast<std::uint32_t>(index.size()),
                                    static_cast<std::uint32_t>(tokens.size())};
  return std::string(reinterpret_cast<const char*>(lengths), kLengths) + index + tokens + manifest;
}

void put(const std::filesystem::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  const TemporaryFolder folder;
  put(folder.path() / "a.txt", "one\n<|endoftext|>\ntwo\n");
  build_tokens({(folder.path() / "a.txt").string()}, DataConfig(), *make_byte_tokenizer(),
               folder.path() / "out", 1, /*quiet=*/true);
  const auto index = read_file(folder.path() / "out.idx"),
             tokens = read_file(folder.path() / "out.bin"),
             manifest = read_file(folder.path() / "out.json");
  return {joined(index, tokens, manifest), joined(index, tokens.substr(2), "{}"),
          joined("", "", "[]"), joined(index.substr(0, 30), tokens, manifest)};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto prefix = folder.path() / "out";
  if (size < kLengths) return 0;
  std::uint32_t lengths[2];
  std::memcpy(lengths, data, kLengths);
  const std::string_view rest(reinterpret_cast<const char*>(data) + kLengths, size - kLengths);
  const auto first = std::min<std::size_t>(lengths[0], rest.size());
  const auto second = std::min<std::size_t>(lengths[1], rest.size() - first);
  put(prefix.string() + ".idx", rest.substr(0, first));
  put(prefix.string() + ".bin", rest.substr(first, second));
  put(prefix.string() + ".json", rest.substr(first + second));
  try {
    const TokenFile file(prefix);
    for (std::int64_t i = 0; i < std::min<std::int64_t>(file.documents(), 100); ++i) {
      const auto [begin, end] = file.document(i);
      file.read(begin, end - begin);
    }
    file.check_vocab(300);
  } catch (const Error&) {
  }
  try {
    read_manifest(prefix);
  } catch (const Error&) {
  }
  return 0;
}
