#include "cli/interactive.h"

#include <editline/readline.h>
#include <unistd.h>

#include <clocale>
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
#include "rwkvx/base/log.h"
#include "rwkvx/base/utf8.h"

namespace rwkvx {
namespace {

// Turns that can be taken back; a state of a large model is a few MB.
constexpr std::size_t kTurnsKept = 100;

constexpr char kHelp[] =
    "/undo        undo the last turn\n"
    "/reset       start a new text\n"
    "/save FILE   save the state to a file\n"
    "/load FILE   resume from a state\n"
    "/quit        quit, as Ctrl-D does\n"
    "A line that ends with \\ continues on the next one. Ctrl-C ends a reply. Every other line is\n"
    "text, /usr/bin too; to send one of the words above as text, double its slash (//undo).\n";

// Whether a line is a command: one of these words, the last two with a name after them.
bool is_command(const std::string& line) {
  if (line == "/undo" || line == "/reset" || line == "/help" || line == "/quit") return true;
  const auto name = line.substr(0, line.find(' '));
  return name == "/save" || name == "/load";
}

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
    // The line editor takes what the locale calls characters. Without one it is UTF-8.
    if (std::setlocale(LC_CTYPE, "") == nullptr || MB_CUR_MAX == 1)
      std::setlocale(LC_CTYPE, "C.UTF-8");
    ::using_history();
    print("/help lists the commands\n");
  }
  std::deque<Session> before;
  const auto command = [&](const std::string& line) {
    const auto name = line.substr(0, line.find(' '));
    const auto rest = name.size() < line.size() ? line.substr(name.size() + 1) : "";
    if (name == "/undo") {
      if (before.empty()) throw Error("/undo", "there is no turn to undo");
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
      print(loaded.release_held());
      before.push_back(std::move(session));
      session = std::move(loaded);
    } else {
      print(kHelp);
    }
  };
  while (auto turn = read_turn(terminal)) {
    if (*turn == "/quit") break;
    try {
      if (is_command(*turn)) {
        command(*turn);
      } else {
        if (turn->starts_with("//") && is_command(turn->substr(1))) turn->erase(0, 1);
        if (const auto invalid = count_invalid_utf8(*turn); invalid > 0)
          log_warning("the line: " + std::to_string(invalid) +
                      " invalid UTF-8 sequences, kept as bytes");
        before.push_back(session.copy());
        const InterruptGuard guard;
        try {
          session.feed(*turn + "\n");
        } catch (const Interrupted&) {  // as if it had not been said
          session = std::move(before.back());
          before.pop_back();
          clear_interrupt();
          continue;
        }
        bool line_open = false;
        session.draw(config,
                     [&](const DrawnToken& one) {
                       print(one.text);
                       finish_output();
                       if (!one.text.empty()) line_open = !one.text.ends_with('\n');
                       return true;
                     },
                     {.keep_text = false});
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
