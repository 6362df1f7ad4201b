#include "rwkvx/metrics/mecab.h"

#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "rwkvx/base/error.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/metrics/unicode.h"

namespace rwkvx {
namespace {

// What is used of mecab.h, as its C interface has it since 0.98.
struct MecabTagger;
struct DictionaryInfo {
  const char* filename;
  const char* charset;
  unsigned int size;
  int type;
  unsigned int lsize, rsize;
  unsigned short version;
  DictionaryInfo* next;
};

// The functions of a loaded library, which stays loaded.
struct Library {
  MecabTagger* (*create)(int, char**);
  void (*destroy)(MecabTagger*);
  const char* (*parse)(MecabTagger*, const char*, std::size_t);
  const char* (*error)(MecabTagger*);
  const DictionaryInfo* (*dictionary)(MecabTagger*);
  const char* (*version)();
};

constexpr const char* kFlag = "mecab_library";
constexpr const char* kDebianDictionary = "/var/lib/mecab/dic/ipadic-utf8";
// sacrebleu asserts these numbers of words. Debian's IPADIC has one more.
constexpr unsigned kJapaneseWords = 392126, kKoreanWords = 811795, kDebianWords = 392127;

Library load(const MecabSetup& setup) {
  void* const handle = ::dlopen(setup.library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    throw ConfigError(kFlag, "expected MeCab's library, got none (" + std::string(::dlerror()) +
                                 "); install " +
                                 (setup.korean ? "mecab-ko" : "libmecab2 and mecab-ipadic-utf8") +
                                 ", or name the file with --mecab-library");
  const auto find = [&](auto*& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(::dlsym(handle, name));
    if (function == nullptr)
      throw ConfigError(kFlag, setup.library + " is not MeCab's library: it has no " + name);
  };
  Library library{};
  find(library.create, "mecab_new");
  find(library.destroy, "mecab_destroy");
  find(library.parse, "mecab_sparse_tostr2");
  find(library.error, "mecab_strerror");
  find(library.dictionary, "mecab_dictionary_info");
  find(library.version, "mecab_version");
  return library;
}

// Taggers with one dictionary; each is used by one thread at a time.
class Taggers {
 public:
  Taggers(Library library, std::string dictionary)
      : library_(library), dictionary_(std::move(dictionary)) {
    idle_.push_back(make());
  }
  ~Taggers() {
    for (auto* tagger : idle_) library_.destroy(tagger);
  }
  Taggers(const Taggers&) = delete;
  Taggers& operator=(const Taggers&) = delete;

  const DictionaryInfo& dictionary() const { return *library_.dictionary(idle_.front()); }

  std::string cut(std::string_view text) {
    auto* const tagger = take();
    const char* const found = library_.parse(tagger, text.data(), text.size());
    std::string words = found == nullptr ? std::string(text) : std::string(found);
    const std::lock_guard lock(mutex_);
    idle_.push_back(tagger);
    return words;
  }

 private:
  MecabTagger* make() const {
    // The settings of the system and of the user are left aside.
    std::vector<std::string> words = {"mecab", "-Owakati", "-r", "/dev/null", "-d", dictionary_};
    std::vector<char*> arguments;
    for (auto& word : words) arguments.push_back(word.data());
    auto* const tagger = library_.create(static_cast<int>(arguments.size()), arguments.data());
    if (tagger == nullptr) {
      std::string reason = library_.error(nullptr);
      std::replace_if(
          reason.begin(), reason.end(), [](unsigned char c) { return std::iscntrl(c) != 0; }, ' ');
      throw DataError(dictionary_, "is not a directory with a dictionary that MeCab can open" +
                                       (reason.empty() ? "" : ": " + reason));
    }
    return tagger;
  }
  MecabTagger* take() {
    const std::lock_guard lock(mutex_);
    if (idle_.empty()) return make();
    auto* const tagger = idle_.back();
    idle_.pop_back();
    return tagger;
  }

  Library library_;
  std::string dictionary_;
  std::mutex mutex_;
  std::vector<MecabTagger*> idle_;
};

// Python's str.strip(), and U+FFFD for what is not UTF-8.
std::string stripped(std::string_view text) {
  std::vector<std::uint32_t> codes;
  decode_utf8(replace_invalid_utf8(text), codes);
  const auto first = std::find_if_not(codes.begin(), codes.end(), unicode::is_space);
  while (codes.end() != first && unicode::is_space(codes.back())) codes.pop_back();
  std::string out;
  std::for_each(first, codes.end(), [&](std::uint32_t code) { append_utf8(code, out); });
  return out;
}

}  // namespace

Mecab open_mecab(const MecabSetup& setup) {
  const auto library = load(setup);
  const std::string version = library.version();
  if (setup.korean != (version.find("ko") != std::string::npos))
    throw ConfigError(kFlag, std::string("expected the library of ") +
                                 (setup.korean ? "mecab-ko" : "MeCab") + ", got version " +
                                 version + " of " + setup.library +
                                 "; name the other file with --mecab-library");
  const auto dictionary =
      setup.dictionary.empty() ? std::string(kDebianDictionary) : setup.dictionary.string();
  const auto taggers = std::make_shared<Taggers>(library, dictionary);
  const auto& info = taggers->dictionary();
  std::string charset = info.charset;
  for (auto& c : charset) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (charset != "utf-8" && charset != "utf8")
    throw DataError(dictionary, "expected a dictionary in UTF-8, got one in " + charset);
  const auto expected = setup.korean ? kKoreanWords : kJapaneseWords;
  const bool debian = !setup.korean && info.size == kDebianWords;
  if ((info.size != expected && !debian) || info.next != nullptr)
    throw DataError(dictionary, "expected the " + std::to_string(expected) + " words of " +
                                    (setup.korean ? "mecab-ko-dic" : "IPADIC") +
                                    " alone, as sacrebleu does, got " + std::to_string(info.size));
  return {
      [taggers](std::string_view text) { return taggers->cut(stripped(text)); },
      version + (setup.korean ? "-KO" : "-IPA") + (debian ? "-" + std::to_string(info.size) : "")};
}

}  // namespace rwkvx
