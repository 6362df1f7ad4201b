#include "data/tokenize.h"

#include <algorithm>
#include <csignal>
#include <exception>

#include "data/documents.h"
#include "data/manifest_store.h"
#include "data/sources.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/log.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/base/text_file.h"
#include "rwkvx/base/utf8.h"
#include "rwkvx/base/workers.h"

namespace rwkvx {
namespace {

// Text handed to each thread between two writes.
constexpr std::size_t kBatchBytes = 4 << 20;

// A piece of a document for one thread, and what the thread makes of it.
struct Work {
  Document document;
  bool ends_document = true;
  std::vector<TokenId> ids;
  std::int64_t bytes = 0, invalid = 0;
  std::string skipped;  // why there is nothing in it, where its line was left out
};

void tokenize(Work& work, const std::vector<std::string>& sources, const DataConfig& config,
              const Tokenizer& tokenizer) {
  std::string storage;
  std::string_view text;
  try {
    if (tokenizer.kind() == "ids" &&
        document_ids(work.document, sources, config.text_field, tokenizer.vocab_size(), work.ids)) {
      work.bytes = static_cast<std::int64_t>(work.document.end - work.document.begin);
      return;
    }
    text = document_text(work.document, sources, config.text_field, storage);
  } catch (const DataError& error) {
    if (!config.skip_bad_lines) throw;
    work.skipped = error.what();
    return;
  }
  work.bytes = static_cast<std::int64_t>(text.size());
  work.invalid = count_invalid_utf8(text);
  // A text document comes cut into pieces already; one from a .jsonl line is cut here by the same
  // rule.
  while (!text.empty()) {
    const std::size_t length = piece_length(text);
    const auto ids = tokenizer.encode(text.substr(0, length));
    work.ids.insert(work.ids.end(), ids.begin(), ids.end());
    text.remove_prefix(length);
  }
}

// The work ends on a signal, and when the reader of the messages is gone.
bool asked_to_stop(bool quiet) {
  if (!quiet && messages_closed()) interrupt_by(SIGPIPE);
  return interrupted();
}

// Does all of `batch`; throws what the first piece that failed threw, whichever thread met it, and
// Interrupted, between two pieces, where a signal came.
template <class Do>
void in_parallel(std::vector<Work>& batch, std::int64_t threads, const std::string& what,
                 const Do& work) {
  const auto count = std::min(threads, static_cast<std::int64_t>(batch.size()));
  Workers workers(count, [&]() -> Workers::Work {
    return [&](std::size_t i) {
      if (!interrupted()) work(batch[i]);
    };
  });
  for (std::size_t i = 0; i < batch.size(); ++i) workers.give(i);
  std::exception_ptr failure;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    try {
      workers.wait(i);
    } catch (...) {
      if (!failure) failure = std::current_exception();
    }
  }
  throw_if_interrupted(what);
  if (failure) std::rethrow_exception(failure);
}

// Cuts the documents of a part into pieces and hands them out in batches.
class BatchReader {
 public:
  explicit BatchReader(PartReader& reader) : reader_(reader) {}
  // Pieces of about `bytes` together, none at the end.
  std::vector<Work> next(std::size_t bytes) {
    std::vector<Work> batch;
    for (std::size_t read = 0; read < bytes;) {
      if (document_.begin == document_.end && !reader_.next(document_)) break;
      Work work{document_, true, {}, 0, 0, {}};
      if (document_.line == 0) {
        const auto rest = document_.bytes.substr(document_.begin, document_.end - document_.begin);
        work.document.end = document_.begin + piece_length(rest);
        work.ends_document = work.document.end == document_.end;
      }
      document_.begin = work.document.end;
      read += work.document.end - work.document.begin;
      batch.push_back(std::move(work));
    }
    return batch;
  }

 private:
  PartReader& reader_;
  Document document_;
};

}  // namespace

std::string names(const std::vector<std::string>& sources) {
  if (sources.empty()) return "data";
  if (sources.size() == 1) return sources.front();
  return sources.front() + " and " + std::to_string(sources.size() - 1) + " more";
}

Built tokenize_all(const std::vector<std::string>& sources, const DataConfig& config,
                   const Tokenizer& tokenizer, const std::filesystem::path& prefix,
                   std::int64_t threads, bool quiet, TextPart part, TokenManifest& manifest) {
  PartReader reader(sources, config, part);
  BatchReader batches(reader);
  Built built{std::make_unique<TokenFileWriter>(prefix, tokenizer.vocab_size()), {}};
  auto& writer = *built.writer;
  const std::string what = "tokenizing " + names(sources);
  Progress progress(what, reader.total_bytes(), quiet);
  std::int64_t read = 0;
  bool open = false;  // whether the document at hand has text so far
  for (;;) {
    auto batch = batches.next(kBatchBytes * static_cast<std::size_t>(threads));
    if (batch.empty()) break;
    in_parallel(batch, threads, prefix.string(),
                [&](Work& work) { tokenize(work, sources, config, tokenizer); });
    for (const Work& work : batch) {
      writer.add(work.ids);
      open = open || !work.ids.empty();
      manifest.bytes += work.bytes;
      manifest.invalid_utf8 += work.invalid;
      if (!work.skipped.empty() && manifest.skipped_lines++ == 0)
        built.first_skipped = work.skipped;
      if (work.ends_document && open) {
        writer.end_document(tokenizer.document_end());
        open = false;
      }
      read += static_cast<std::int64_t>(work.document.end - work.document.begin);
    }
    const Document& last = batch.back().document;
    const auto offset = static_cast<std::uint64_t>(last.bytes.data() - last.file->text().data());
    last.file->drop(0, offset + last.end);
    last.file->check();
    progress.update(read, count_text(writer.tokens()) + " tokens");
    if (asked_to_stop(quiet)) throw_if_interrupted(prefix.string());
  }
  progress.finish();
  manifest.documents = writer.documents();
  manifest.tokens = writer.tokens();
  if (manifest.documents == 0)
    throw DataError(names(sources),
                    (part == TextPart::kAll
                         ? "holds no text"
                         : "is too short to split: its " + manifest.part + " part holds no text") +
                        (built.first_skipped.empty()
                             ? ""
                             : "; its lines were skipped, the first: " + built.first_skipped));
  return built;
}

void put_in_place(Built& built, const TokenFilePaths& paths, const TokenManifest& manifest) {
  write_file(paths.manifest, manifest_text(manifest, /*complete=*/false));
  built.writer->commit();
  write_file(paths.manifest, manifest_text(manifest, /*complete=*/true));
}

void warn_of(const std::vector<std::string>& sources, const Built& built,
             const TokenManifest& manifest) {
  if (manifest.invalid_utf8 > 0)
    log_warning(names(sources) + ": " + count_text(manifest.invalid_utf8) +
                " invalid UTF-8 sequence" + (manifest.invalid_utf8 == 1 ? "" : "s") +
                ", kept as bytes");
  if (manifest.skipped_lines > 0)
    log_warning(names(sources) + ": " + count_text(manifest.skipped_lines) +
                (manifest.skipped_lines == 1 ? " bad line was" : " bad lines were") +
                " skipped, the first: " + built.first_skipped);
}

OpenTexts open_texts(const std::vector<std::string>& sources) {
  OpenTexts texts;
  for (const auto& source : sources) texts.push_back(open_text(source));
  return texts;
}

void check_lines(const std::vector<std::string>& entries, const DataConfig& config,
                 std::int64_t threads) {
  if (config.skip_bad_lines || entries.empty()) return;
  const auto sources = find_sources(entries, "data").texts;
  std::vector<std::string> lines;
  OpenTexts texts;
  for (const auto& source : sources) {
    texts.push_back(open_text(source));
    if (texts.back()->json_lines()) lines.push_back(source);
  }
  threads = thread_count(threads);
  PartReader reader(lines, config, TextPart::kAll);
  BatchReader batches(reader);
  for (;;) {
    auto batch = batches.next(kBatchBytes * static_cast<std::size_t>(threads));
    if (batch.empty()) return;
    in_parallel(batch, threads, names(lines), [&](Work& work) {
      std::string storage;
      document_text(work.document, lines, config.text_field, storage);
    });
  }
}

}  // namespace rwkvx
