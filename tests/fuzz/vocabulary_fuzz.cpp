// RWKV-World vocabularies: an Error, or a tokenizer that gives every text back.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/text/tokenizer.h"

using namespace rwkvx;

std::vector<std::string> fuzz_seeds() {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string bytes;
  for (int i = 0; i < 256; ++i)
    bytes += std::to_string(i + 1) + " b'\\x" + kDigits[i >> 4] + kDigits[i & 15] + "' 1\n";
  return {bytes + "300 'the' 3\n301 '\\u00e9' 2\n400 \"it's\" 4\n",
          "\xEF\xBB\xBF" + bytes + "\r\n\n", "1 'a' 1\n2 b'\\xff' 1\n", ""};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto path = folder.path() / "vocabulary.txt";
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::ofstream(path, std::ios::binary) << text;
  try {
    const auto tokenizer = load_tokenizer(path);
    const auto sample = text.substr(0, 500);
    if (tokenizer->decode(tokenizer->encode(sample)) != sample) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
