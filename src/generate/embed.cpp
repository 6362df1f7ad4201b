#include "rwkvx/generate/embed.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <csignal>
#include <nlohmann/json.hpp>
#include <span>

#include "generate/session.h"
#include "generate/text_lines.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/files.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/base/json_file.h"
#include "rwkvx/base/output_file.h"
#include "rwkvx/base/progress.h"
#include "rwkvx/formats/npy.h"

namespace rwkvx {
namespace {

// [0.5,-1.25e-05]: the shortest texts that give the float32 again.
std::string array_text(std::span<const float> values) {
  std::string text = "[";
  char number[32];
  for (const float value : values) {
    if (text.size() > 1) text += ',';
    text.append(number, std::to_chars(number, number + sizeof number, value).ptr);
  }
  return text + "]";
}

// The texts of the options, as often as they are asked for.
class Texts {
 public:
  explicit Texts(const EmbedOptions& options) : text_(options.text) {
    if (text_) return;
    lines_.emplace(options.input.string(), options.input_name,
                   options.json_lines ? TextLines::Kind::kJson : TextLines::Kind::kPlain,
                   options.field, std::vector<std::string>{"tokens", "embedding"});
  }
  std::optional<TextLine> next() {
    if (lines_) return lines_->next();
    if (!text_) return std::nullopt;
    return TextLine{{}, *std::exchange(text_, std::nullopt), "--text"};
  }
  std::string name() const { return lines_ ? lines_->name() : "--text"; }

 private:
  std::optional<std::string> text_;
  std::optional<TextLines> lines_;
};

[[noreturn]] void refuse_empty(const std::string& where) {
  throw DataError(where, "is empty; expected a text of at least one character");
}

std::string line_of(const TextLine& line, const Embedding& found) {
  JsonMembers own;
  if (line.members.empty()) own.emplace_back("text", json_dump(nlohmann::json(line.text)));
  own.emplace_back("tokens", std::to_string(found.tokens));
  own.emplace_back("embedding", array_text(found.values));
  return members_line(line.members, own);
}

}  // namespace

Embedding embed(Generator& generator, std::string_view text, Pooling pooling, bool normalize,
                const std::string& where) {
  auto& inside = Generator::Impl::of(generator);
  const auto ids = inside.tokenizer->encode(text);
  if (ids.empty()) refuse_empty(where);
  const auto C = static_cast<std::size_t>(inside.model->n_embd());
  const auto state = inside.start();
  std::vector<double> sums(C);
  // A signal ends the work within a piece; cutting there changes nothing.
  for (std::span<const TokenId> rest = ids; !rest.empty();) {
    throw_if_interrupted(where);
    const auto piece = rest.first(std::min(rest.size(), static_cast<std::size_t>(Engine::kChunk)));
    rest = rest.subspan(piece.size());
    inside.model->prefill_features(piece, *state, [&](std::int64_t, std::span<const float> rows) {
      const std::size_t first = pooling == Pooling::kMean ? 0 : rows.size() - C;
      if (pooling == Pooling::kLast) std::fill(sums.begin(), sums.end(), 0.0);
      for (std::size_t i = first; i < rows.size(); ++i) sums[i % C] += static_cast<double>(rows[i]);
    });
  }
  check_mapped_files();
  Embedding found{std::vector<float>(C), static_cast<std::int64_t>(ids.size())};
  double scale = pooling == Pooling::kMean ? 1.0 / static_cast<double>(ids.size()) : 1.0;
  if (normalize) {
    double squares = 0;
    for (const double sum : sums) squares += sum * sum;
    if (squares > 0) scale = 1 / std::sqrt(squares);
  }
  for (std::size_t i = 0; i < C; ++i) {
    found.values[i] = static_cast<float>(sums[i] * scale);
    if (!std::isfinite(found.values[i]))
      throw DataError(where, "the model gave a hidden state that is not finite");
  }
  return found;
}

std::int64_t embed_texts(Generator& generator, const EmbedOptions& options) {
  std::int64_t total = 0;
  Texts counting(options);
  const auto name = counting.name();
  while (const auto line = counting.next()) {
    if (line->text.empty()) refuse_empty(line->where);
    ++total;
  }
  if (total == 0) throw DataError(name, "holds no texts");

  const bool npy = !options.write_line && options.output.extension() == ".npy";
  std::optional<AtomicFile> file;
  if (!options.write_line) file.emplace(options.output);
  if (npy) file->write(npy_header(total, Generator::Impl::of(generator).model->n_embd()));
  Progress bar("embedding", total, options.quiet || options.text.has_value());
  const InterruptGuard guard;
  std::int64_t done = 0;
  for (Texts texts(options); const auto line = texts.next();) {
    if (done == total) throw FileError(name, "was changed meanwhile");
    const auto found =
        embed(generator, line->text, options.pooling, options.normalize, line->where);
    if (npy) {
      file->write({reinterpret_cast<const char*>(found.values.data()),
                   found.values.size() * sizeof(float)});
    } else if (file) {
      file->write(line_of(*line, found));
    } else if (!options.write_line(line_of(*line, found))) {
      interrupt_by(SIGPIPE);
      throw_if_interrupted("standard output");
    }
    bar.update(++done);
  }
  if (done != total) throw FileError(name, "was changed meanwhile");
  bar.finish();
  if (file) file->commit();
  return done;
}

}  // namespace rwkvx
