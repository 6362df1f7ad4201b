#include "rwkvx/base/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include <thread>

#include "rwkvx/base/error.h"
#include "rwkvx/base/file_kind.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "support/scratch.h"

namespace rwkvx {
namespace {

using ::testing::HasSubstr;

std::string gzip(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(compressBound(text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd(const std::string& text) {
  // With a checksum, as the zstd program writes it.
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress2(context, out.data(), out.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return out;
}

class TextFileTest : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) {
    write_file(folder_ / name, content);
    return (folder_ / name).string();
  }
  static std::string text(const std::string& name) { return read_file(open_text(name)->path()); }
  std::string failure(const std::string& name, const std::string& content) {
    const auto path = file(name, content);
    try {
      open_text(path);
    } catch (const DataError& error) {
      const std::string message = error.what();
      EXPECT_EQ(message.substr(0, path.size() + 2), path + ": ");
      return message.substr(path.size() + 2);
    }
    return "taken";
  }
  ScratchDirectory folder_;
};

// Longer than every buffer, and of a kind that compresses well: one piece becomes many.
std::string long_text() {
  std::string text;
  for (int i = 0; i < 200000; ++i) text += "line " + std::to_string(i % 977) + "\n";
  return text + std::string(3 << 20, 'x');
}

TEST_F(TextFileTest, ReadsCompressedText) {
  const auto content = long_text();
  for (const auto& [ending, packed] :
       {std::pair{".gz", gzip(content)}, std::pair{".zst", zstd(content)}}) {
    const auto name = file(std::string("a.txt") + ending, packed);
    EXPECT_TRUE(text(name) == content) << ending;
    EXPECT_TRUE(open_text(name)->compressed());
    EXPECT_FALSE(open_text(name)->json_lines());
    EXPECT_TRUE(open_text(file(std::string("a.jsonl") + ending, packed))->json_lines());
    EXPECT_TRUE(text(file("under another name.txt", packed)) == content) << ending;
  }
}

TEST_F(TextFileTest, ReadsSeveralMembersAndNone) {
  EXPECT_EQ(text(file("a.gz", gzip("one\n") + gzip("") + gzip("two\n"))), "one\ntwo\n");
  EXPECT_EQ(text(file("a.zst", zstd("one\n") + zstd("") + zstd("two\n"))), "one\ntwo\n");
  EXPECT_EQ(text(file("b.txt.gz", gzip(""))), "");
  EXPECT_EQ(text(file("b.txt.zst", zstd(""))), "");
}

TEST_F(TextFileTest, RefusesWhatIsCutOrDamaged) {
  const auto content = long_text();
  for (const auto& [ending, packed] :
       {std::pair{".gz", gzip(content)}, std::pair{".zst", zstd(content)}}) {
    for (const std::size_t left : {std::size_t{30}, packed.size() / 2, packed.size() - 1})
      EXPECT_THAT(failure(std::string("a") + ending, packed.substr(0, left)),
                  HasSubstr("that is cut off"))
          << ending << left;
    auto damaged = packed;
    for (std::size_t i = packed.size() / 2; i < packed.size() / 2 + 8; ++i) damaged[i] ^= '\x55';
    EXPECT_THAT(failure(std::string("b") + ending, damaged), HasSubstr("is a damaged")) << ending;
    EXPECT_THAT(failure(std::string("c") + ending, "plain text"), HasSubstr("is no ")) << ending;
  }
}

TEST_F(TextFileTest, ADecompressedFileIsReadAnewWhenItChanges) {
  const auto name = file("a.txt.gz", gzip("one"));
  const auto first = open_text(name);
  EXPECT_EQ(open_text(name), first);
  file("a.txt.gz", gzip("two"));
  EXPECT_EQ(text(name), "two");
  EXPECT_EQ(read_file(first->path()), "one");
}

// Told by content under any name, also when compressed.
TEST_F(TextFileTest, RefusesOtherKindsByTheirContent) {
  const std::string tail = "\x01\x02" + std::string(40, 'x');
  for (const auto& [beginning, kind] : std::vector<std::pair<std::string, std::string>>{
           {"PAR1", "a Parquet file"},
           {"ARROW1", "an Arrow file"},
           {"PK\x03\x04", "a zip archive"},
           {"BZh91AY", "a bzip2 file"},
           {std::string("\xfd\x37zXZ\0", 6), "an xz file"},
           {"\x89PNG\r\n", "a PNG picture"},
           {"\xff\xd8\xff\xe0", "a JPEG picture"},
           {"GIF89a", "a GIF picture"},
           {"%PDF-1.7", "a PDF document"},
           {"\x7f"
            "ELF",
            "a program"},
           {"\x80\x04\x95", "a Python pickle"},
           {"\x93NUMPY", "a NumPy array"},
           {"RIFF1234WEBPVP8", "a WebP picture"},
           {"RIFF1234WAVEfmt", "a RIFF file"},
           {std::string("MMIDIDX\0\0", 9), "the index of a token file"},
           {std::string("\x40\0\0\0\0\0\0\0{\"a", 11), "a safetensors file"},
           {"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"},
           {std::string("\xff\xfeh\0i\0", 6), "UTF-16 text"},
           {std::string(257, 'n') + "ustar", "a tar archive"},
           {std::string("text\0text", 9), "binary"}}) {
    EXPECT_THAT(failure("a.txt", beginning + tail), HasSubstr(kind));
    EXPECT_THAT(failure("a.jsonl.gz", gzip(beginning + tail)), HasSubstr(kind));
  }
}

TEST_F(TextFileTest, RefusesOtherKindsByTheirName) {
  for (const char* name : {"a.parquet", "a.arrow", "a.bin", "a.pt", "a.npy", "a.zip", "a.png",
                           "a.PDF", "a.xz", "a.safetensors", "a.parquet.gz", "a.bin.zst"}) {
    const std::string plain = "letters", ending = std::string(name).substr(1);
    const auto content = ending.ends_with(".gz")    ? gzip(plain)
                         : ending.ends_with(".zst") ? zstd(plain)
                                                    : plain;
    EXPECT_THAT(failure(name, content), HasSubstr("by its name; expected text: .txt or .jsonl"));
  }
  // A text may begin with the letters of a mark.
  for (const char* content : {"PAR1 is a receptor.", "ID3 tags", "GGUF", "BZh", "RIFF1234WAVE"})
    EXPECT_EQ(text(file("a.txt", content)), content);
  for (const char* name : {"a.txt", "a.md", "a.py", "a.csv", "a.tex", "A.TXT", "a.binary", ".bin"})
    EXPECT_EQ(text(file(name, "letters")), "letters") << name;
}

TEST_F(TextFileTest, ReadsJsonLinesUnderTheNameJson) {
  EXPECT_TRUE(open_text(file("a.json", "\n {\"text\": \"x\"}\n{\"text\": \"y\"}\n"))->json_lines());
  EXPECT_TRUE(open_text(file("b.JSON", "\xEF\xBB\xBF{\"text\": \"x\"}"))->json_lines());
  for (const char* content :
       {"[{\"text\": \"x\"}]", "{\n \"text\": \"x\"\n}\n", "\"x\"", "{\"a\": 1"})
    EXPECT_THAT(failure("c.json", content), HasSubstr("is JSON, but not one object a line"));
  // Other names mean what they say, a name without an ending says nothing.
  EXPECT_FALSE(open_text(file("a.txt", "{\"text\": \"x\"}\n"))->json_lines());
  EXPECT_TRUE(open_text(file("lines", "{\"text\": \"x\"}\n"))->json_lines());
  EXPECT_FALSE(open_text(file("text", "{x\n"))->json_lines());
}

TEST_F(TextFileTest, APipeIsReadOnce) {
  const auto pipe = (folder_ / "pipe").string();
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const auto packed = gzip("{\"text\": \"x\"}\n");
  std::thread writer([&] {
    std::FILE* to = std::fopen(pipe.c_str(), "wb");
    std::fwrite(packed.data(), 1, packed.size(), to);
    std::fclose(to);
  });
  EXPECT_EQ(text(pipe), "{\"text\": \"x\"}\n");
  writer.join();
  EXPECT_EQ(text(pipe), "{\"text\": \"x\"}\n");
  EXPECT_TRUE(open_text(pipe)->json_lines());
  EXPECT_EQ(open_text(pipe)->name(), pipe);
}

TEST_F(TextFileTest, LinesMayHoldAnything) {
  EXPECT_NO_THROW(open_lines(file("a.txt", std::string("a\0b", 3))));
  EXPECT_THROW(open_text((folder_ / "a.txt").string()), DataError);
  EXPECT_THROW(open_lines(file("a.jsonl", "PAR1\x15\x04....")), DataError);
}

TEST_F(TextFileTest, NamesWhatCannotBeOpened) {
  EXPECT_THROW(open_text((folder_ / "none").string()), FileError);
  EXPECT_THROW(open_text(folder_.path().string()), FileError);
}

}  // namespace
}  // namespace rwkvx
