// Messages to standard error. Results go to standard output and are the commands' business.
#pragma once

#include <string>

namespace rwkvx {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// Messages below this level are not shown. Starts at kInfo.
void set_log_level(LogLevel level);

void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warning(const std::string& message);

// Whether messages find no reader any more: standard error is a pipe that was closed
// (`2>&1 | head`).
bool messages_closed();
// Called after each write to standard error that is not one of the above.
void note_message_written();

}  // namespace rwkvx
