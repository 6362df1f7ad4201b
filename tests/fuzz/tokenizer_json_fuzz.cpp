// tokenizer.json of Hugging Face: an Error, or a tokenizer that encodes and decodes any text.
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/text/tokenizer.h"

using namespace rwkvx;

namespace {

// Every byte, a few merges in either spelling, and two added tokens.
std::string small(const std::string& normalizer, const std::string& merges) {
  std::string vocab;
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    const auto code = printable ? byte : next++;
    std::string name;
    if (code < 128)
      name = code == '"' || code == '\\' ? std::string("\\") + static_cast<char>(code)
                                         : std::string(1, static_cast<char>(code));
    else
      name = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 63))};
    vocab += "\"" + name + "\":" + std::to_string(byte + 2) + ",";
  }
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":0,"content":)"
         R"("<|endoftext|>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)"
         R"("special":true},{"id":1,"content":"  ","normalized":true}],"normalizer":)" +
         normalizer +
         R"(,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"post_processor":null,)"
         R"("decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{)" +
         vocab + R"("th":258,"the":259},"merges":)" + merges + "}}";
}

}  // namespace

std::vector<std::string> fuzz_seeds() {
  return {small(R"({"type":"NFC"})", R"(["t h","th e"])"),
          small("null", R"([["t","h"],["th","e"]])"), R"({"model":{"vocab":{"a":0},"merges":[]}})",
          ""};
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TemporaryFolder folder;
  static const auto path = folder.path() / "t.json";
  const std::string text(reinterpret_cast<const char*>(data), size);
  std::ofstream(path, std::ios::binary) << text;
  try {
    const auto tokenizer = load_tokenizer(path);
    for (const auto& sample :
         {text.substr(0, 300), std::string("the  e\xCC\x81 \xFF<|endoftext|>")}) {
      const auto ids = tokenizer->encode(sample);
      for (const auto id : ids)
        if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
      const auto back = tokenizer->decode(ids);
      const bool ends = sample.find("<|endoftext|>") != std::string::npos;
      if (tokenizer->lossless() && !ends && back.size() < sample.size()) std::abort();
    }
  } catch (const Error&) {
  }
  return 0;
}
