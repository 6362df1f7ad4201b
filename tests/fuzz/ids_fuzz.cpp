// NPY files and arrays of ids: an Error, or a token file with ids of the vocabulary.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/data/corpus.h"

using namespace rwkvx;

std::vector<std::string> fuzz_seeds() {
  const auto npy = [](const std::string& type, const std::string& shape,
                      const std::string& numbers) {
    std::string header =
        "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
    header.resize(118, ' ');
    return "n" + std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + numbers;
  };
  return {npy("<u2", "(4,)", std::string("\x01\0\x02\0\x03\0\x04\0", 8)),
          npy("|i1", "(2, 2)", "\x01\x02\x03\x04"), npy("<i8", "(1,)", std::string(8, '\0')),
          "j[1,2,3]\n{\"text\":[4, 5]}\n{\"text\":\"6 7\"}\n", "j[]\n[1e3]\n[-1]\n"};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto ids = make_ids_tokenizer(100, 100);
  if (size == 0) return 0;
  const auto path = folder.path() / (data[0] == 'n' ? "a.npy" : "a.jsonl");
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(data) + 1, static_cast<std::streamsize>(size) - 1);
  try {
    build_tokens({path.string()}, DataConfig(), *ids, folder.path() / "out", 1, /*quiet=*/true);
    TokenFile(folder.path() / "out").check_vocab(101);
  } catch (const DataError&) {
  } catch (const FileError&) {
  }
  return 0;
}
