#include "cli/interactive.h"

#include <editline/readline.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <optional>
#include <string>

#include "cli/output.h"
#include "rwkvx/base/error.h"
#include "rwkvx/base/interrupt.h"
#include "rwkvx/text/utf8.h"

namespace rwkvx {
namespace {

// Turns that can be taken back; a state of a large model is a few MB.
constexpr std::size_t kTurnsKept = 100;

constexpr char kHelp[] =
    "/undo        take back the last turn\n"
    "/reset       begin a new text\n"
    "/save FILE   keep the state in a file\n"
    "/load FILE   go on from a state\n"
    "/quit        end, as Ctrl-D does\n"
    "A line that ends with \\ goes on in the next one. Ctrl-C ends a reply.\n";

// A line without its break; none at the end of the input.
std::optional<std::string> read_line(const char* prompt, bool terminal) {
  std::string line;
  if (!terminal) {
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  // Ctrl-C ends replies; here it drops the line.
  static volatile std::sig_atomic_t dropped = 0;
  const auto before = std::signal(SIGINT, [](int) { dropped = 1; });
  char* read = nullptr;
  do {
    if (dropped != 0) print("\n");
    finish_output();
    dropped = 0;
    read = ::readline(prompt);
  } while (read == nullptr && dropped != 0);
  std::signal(SIGINT, before);
  if (read == nullptr) return std::nullopt;
  line = read;
  std::free(read);
  if (!line.empty()) ::add_history(line.c_str());
  return line;
}

std::optional<std::string> read_turn(bool terminal) {
  auto text = read_line("> ", terminal);
  while (text && text->ends_with('\\')) {
    text->back() = '\n';
    const auto more = read_line(". ", terminal);
    if (!more) break;
    *text += *more;
  }
  return text;
}

}  // namespace

void run_interactive(Generator& generator, Session session, const GenerateConfig& config) {
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) {
    ::using_history();
    print("/help tells the commands\n");
  }
  std::deque<Session> before;
  const auto command = [&](const std::string& line) {
    const auto name = line.substr(0, line.find(' '));
    const auto rest = name.size() < line.size() ? line.substr(name.size() + 1) : "";
    if (name == "/undo") {
      if (before.empty()) throw Error("/undo", "there is no turn to take back");
      session = std::move(before.back());
      before.pop_back();
    } else if (name == "/reset") {
      before.push_back(std::move(session));
      session = Session(generator);
    } else if (name == "/save" && !rest.empty()) {
      session.save(rest);
    } else if (name == "/load" && !rest.empty()) {
      auto loaded = Session(generator);
      loaded.load(rest);
      before.push_back(std::move(session));
      session = std::move(loaded);
    } else {
      print(kHelp);
    }
  };
  while (const auto turn = read_turn(terminal)) {
    if (*turn == "/quit") break;
    try {
      if (turn->starts_with('/')) {
        command(*turn);
      } else {
        if (count_invalid_utf8(*turn) > 0) throw DataError("the line", "is not UTF-8 text");
        before.push_back(session.copy());
        const InterruptGuard guard;
        session.feed(*turn + "\n");
        bool line_open = false;
        session.draw(
            config,
            [&](const DrawnToken& one) {
              print(one.text);
              finish_output();
              if (!one.text.empty()) line_open = !one.text.ends_with('\n');
              return true;
            },
            /*sequence=*/0, /*keep_text=*/false);
        if (line_open) print("\n");
        clear_interrupt();
      }
      if (before.size() > kTurnsKept) before.pop_front();
    } catch (const Error& error) {
      std::fprintf(stderr, "rwkvx: error: %s\n", error.what());
    }
    finish_output();
  }
}

}  // namespace rwkvx
